"""Networks as plain graphs, tensors in and tensors out, for runtimes other than PyTorch.

A graph has a fixed batch size, which saves decisions at run time; `Rows` runs any batch through it. Inputs and outputs
are float32 in every precision. `openvino_layout` gives COMPACT the form in which such graphs run fastest. Volumes are
sampled in one of two forms (`networks.sampling`), since not every runtime has 5-D grid sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.choices import Precision
from liveportrait.engine.backend import autocast_for
from liveportrait.networks import Networks, compact
from liveportrait.networks.compact.generator import GROUPS, SpatialModulation
from liveportrait.networks.compact.painter import CUES
from liveportrait.networks.expression import LANDMARKS, SCORES
from liveportrait.networks.geometry import Form, sampling_form
from liveportrait.networks.interface import NUM_KEYPOINTS, Features, Layers, Motion, Pose
from liveportrait.networks.renderer import Renderer

CHANNELS = 16  # OpenVINO's layout of maps holds a multiple of this many

Run = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""A call of a runtime: the outputs for inputs of the graph's own shapes."""


@dataclass(frozen=True)
class Graph:
    """A module on tensors, example inputs that fix its shapes, and the names of its inputs and outputs."""

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def export(self, form: Form) -> torch.export.ExportedProgram:
        """The graph in PyTorch's own exchange format."""
        with torch.no_grad(), sampling_form(form):
            return torch.export.export(self.module.eval(), self.inputs)


def openvino_layout(networks: Networks) -> Networks:
    """The compact networks in the form that compiled graphs run fastest; the numbers are the same up to rounding.

    Two changes cost nothing in PyTorch and save a third of a frame in OpenVINO 2026.4, where splitting a map by
    channels copies both halves, and reordering a map into the layout of its convolutions is eight times slower if its
    channels are not a multiple of 16. The modules are changed in place: pass copies (`optimised` makes some).
    """
    warping, generator = networks.warping, networks.generator
    for network in (warping, generator):
        for parent in list(network.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, SpatialModulation):
                    setattr(parent, name, _SplitModulation(child).eval().requires_grad_(False))
    # The inputs of these are concatenated maps, whose channels add up to any number.
    if isinstance(warping, compact.warping.WarpingModule):
        warping.enter = _PaddedConv(warping.enter)
    if isinstance(generator, compact.generator.Generator):
        generator.enter, generator.merge = _PaddedConv(generator.enter), _PaddedConv(generator.merge)
    return networks


class _SplitModulation(nn.Module):
    """Equivalent to `SpatialModulation`; the 1 in 1 + gain is folded into a bias."""

    @torch.no_grad()
    def __init__(self, original: SpatialModulation) -> None:
        super().__init__()
        weight, bias = original.modulation.parameters()
        channels = len(weight) // 2
        self.gain, self.shift = (nn.Conv2d(weight.shape[1], channels, 1, device="meta") for _ in range(2))
        self.gain.weight, self.shift.weight = (nn.Parameter(half.clone()) for half in weight.chunk(2))
        self.gain.bias = nn.Parameter(bias[:channels] + 1)
        self.shift.bias = nn.Parameter(bias[channels:].clone())

    def forward(self, x: Tensor, conditioning: Tensor) -> Tensor:
        return F.group_norm(x, GROUPS) * self.gain(conditioning) + self.shift(conditioning)


class _PaddedConv(nn.Conv2d):
    """A convolution whose input is padded with zero channels to a multiple of 16."""

    def __init__(self, original: nn.Conv2d) -> None:
        missing = -original.in_channels % CHANNELS
        super().__init__(
            original.in_channels + missing,
            original.out_channels,
            original.kernel_size,  # type: ignore[arg-type]
            padding=original.padding,  # type: ignore[arg-type]
            device="meta",
        )
        self.missing = missing
        weight = F.pad(original.weight.detach(), (0, 0, 0, 0, 0, missing))
        self.weight, self.bias = nn.Parameter(weight, requires_grad=False), original.bias

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 0, 0, 0, 0, self.missing)))


def motion_graph(networks: Networks, batch: int = 1, precision: Precision = "fp32") -> Graph:
    """M: pixels (B,3,S,S) in [0, 1] to the five parts of a `Motion`. For 16 bits, pass networks from `to_half`."""
    pixels = _pixels(networks, batch)
    module = _in(precision, _Motion(networks.motion), pixels.device)
    return Graph("motion", module, (pixels,), ("pixels",), Motion._fields)


def appearance_graph(networks: Networks, batch: int = 1, precision: Precision = "fp32") -> Graph:
    """F: pixels (B,3,S,S) in [0, 1] to its features, sorted by name."""
    pixels = _pixels(networks, batch)
    names = tuple(example_features(networks, batch, precision))
    module = _in(precision, _Appearance(networks.appearance, names), pixels.device)
    return Graph("appearance", module, (pixels,), ("pixels",), names)


def render_graph(networks: Networks, batch: int = 1, precision: Precision = "fp32") -> Graph:
    """W, then G: features sorted by name, source pose and driving pose to the three parts of `Layers`.

    Networks with a painter take cues (B,5) as the last input.
    """
    features = example_features(networks, batch, precision)
    names = tuple(features)
    # Two separate poses with equal numbers: one tensor given twice would become one input.
    source, driving = example_pose(networks, batch), example_pose(networks, batch)
    pose_names = (f"{whose}_{part}" for whose in ("source", "driving") for part in Pose._fields)
    module = _in(precision, _Render(Renderer(networks), names), source.keypoints.device)
    extra = {} if networks.mouth_painter is None else {"cues": source.scale.new_zeros(batch, CUES)}
    inputs = (*features.values(), *source, *driving, *extra.values())
    return Graph("render", module, inputs, (*names, *pose_names, *extra), Layers._fields)


def small_graphs(networks: Networks, batch: int = 1) -> list[Graph]:
    """Graphs of S, eye and lip retargeting and E, as far as present, with their modules' own arguments."""
    keypoints = example_pose(networks, batch).keypoints
    ratios = keypoints.new_full((batch, 3), 0.3)
    scores = keypoints.new_full((batch, SCORES), 0.2)
    known: dict[str, dict[str, Tensor]] = {
        "stitching": {"source": keypoints, "driving": keypoints + 0.01},
        "eye_retargeting": {"source": keypoints, "ratios": ratios},
        "lip_retargeting": {"source": keypoints, "ratios": ratios[:, :2].clone()},
        "expression": {
            "landmarks": keypoints.new_zeros(batch, LANDMARKS, 2),
            "own": scores,
            "wanted": scores + 0.1,
        },
    }
    return [
        Graph(name, module, tuple(known[name].values()), tuple(known[name]), ("moved",))
        for name, module in networks.modules().items()
        if name in known
    ]


@torch.no_grad()
def example_features(networks: Networks, batch: int = 1, precision: Precision = "fp32") -> Features:
    """Features of a grey picture, float32, sorted by name."""
    pixels = _pixels(networks, batch)
    with autocast_for(precision, pixels.device):
        features: Features = networks.appearance(pixels)
    return {name: features[name].float() for name in sorted(features)}


def example_pose(networks: Networks, batch: int = 1) -> Pose:
    """An example pose for building graphs."""
    device = next(networks.motion.parameters()).device
    return Pose(
        torch.linspace(-0.5, 0.5, NUM_KEYPOINTS * 3, device=device).view(1, -1, 3).repeat(batch, 1, 1),
        torch.eye(3, device=device).repeat(batch, 1, 1),
        torch.zeros(batch, 3, device=device),
        torch.ones(batch, 1, device=device),
        torch.zeros(batch, 1, device=device),
    )


class Rows:
    """Runs any batch through a graph of fixed batch size: in groups of rows, the last one padded."""

    def __init__(self, run: Run, batch: int) -> None:
        self._run = run
        self._batch = batch

    def __call__(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The outputs, each with the batch size of the inputs."""
        count = len(tensors[0])
        groups = []
        for start in range(0, count, self._batch):
            rows = [tensor[start : start + self._batch] for tensor in tensors]
            missing = self._batch - len(rows[0])
            if missing:
                rows = [torch.cat([row, row[-1:].expand(missing, *row.shape[1:])]) for row in rows]
            groups.append([made[: self._batch - missing] for made in self._run(rows)])
        return tuple(parts[0] if len(parts) == 1 else torch.cat(parts) for parts in zip(*groups, strict=True))


class _Appearance(nn.Module):
    def __init__(self, appearance: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.appearance, self.names = appearance, names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        features = self.appearance(*tensors)
        return tuple(features[name] for name in self.names)


class _Motion(nn.Module):
    def __init__(self, motion: nn.Module) -> None:
        super().__init__()
        self.motion = motion

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.motion(*tensors))


class _Render(nn.Module):
    def __init__(self, renderer: Renderer, names: tuple[str, ...]) -> None:
        super().__init__()
        self.renderer, self.names = renderer, names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        count, fields = len(self.names), len(Pose._fields)
        features = dict(zip(self.names, tensors[:count], strict=True))
        end = count + 2 * fields
        source, driving = Pose(*tensors[count : count + fields]), Pose(*tensors[count + fields : end])
        cues = tensors[end] if len(tensors) > end else source.scale.new_zeros(len(source.scale), CUES)
        return tuple(self.renderer(features, source, driving, cues))


class _InHalf(nn.Module):
    """A module that computes in 16 bits, with float32 inputs and outputs."""

    def __init__(self, module: nn.Module, precision: Precision, device: torch.device) -> None:
        super().__init__()
        self.module, self.precision, self.device = module, precision, device

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        with autocast_for(self.precision, self.device):
            made = self.module(*tensors)
        return tuple(tensor.float() for tensor in made)


def _pixels(networks: Networks, batch: int) -> Tensor:
    size = networks.variant.input_size
    return torch.full((batch, 3, size, size), 0.5, device=next(networks.motion.parameters()).device)


def _in(precision: Precision, module: nn.Module, device: torch.device) -> nn.Module:
    return module if precision == "fp32" else _InHalf(module, precision, device)
