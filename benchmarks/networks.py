"""The networks alone: seconds per frame with every back end and precision, and the speed-up over the reference.

    python benchmarks/networks.py                                       # both variants, batch 1
    python benchmarks/networks.py --variants compact --batches 1 4 --repeats 5
    python benchmarks/networks.py --check benchmarks/figures/networks.jsonl    # exit 1 if a ratio fell
    python benchmarks/networks.py --write benchmarks/figures/networks.jsonl

A frame is M of the driving picture, W and G; F runs once per source and is left out. The reference is this project's
own plain path in the layout and order of the published program: float32, contiguous channels-first tensors, one frame
at a time, layer by layer. The others are back ends in their precisions; "eager fp32" includes the exact optimisations
that they all share, and those that cannot run here are left out. Weights are random, because the cost of the networks
does not depend on them, but BASE's are scaled so that pictures have contrast, since grey ones would hide errors. The
largest difference from the reference's picture and the PSNR are those of the first frame. One thread is timed by CPU
time, several by wall time (OMP_WAIT_POLICY=PASSIVE keeps them from spinning).

All cases run alternately in one process; each prints a JSON line, and a table follows at the end. Operations are
multiply-accumulates in convolutions and products; only PyTorch layers are counted. On a GPU each case comes with a
floor: the time of those operations at the rate of one large product, or of reading the weights once per batch.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from measuring import Figure, Speeds, clock_of, fastest, machine, read, regressions, table, write
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from liveportrait.choices import BackendName, Precision
from liveportrait.engine import Backend, make_backend
from liveportrait.engine.backend import HALF
from liveportrait.errors import UserError
from liveportrait.networks import BASE, COMPACT, Networks, build
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Features, Layers, Motion, Pose
from liveportrait.networks.renderer import Renderer, compose

VARIANTS = {"base": BASE, "compact": COMPACT}
ON_A_CPU: dict[str, list[tuple[BackendName, Precision]]] = {
    # Compiling BASE for other back ends takes minutes and gigabytes.
    "base": [("eager", "fp32"), ("winograd", "fp32"), ("winograd", "bf16")],
    "compact": [
        ("eager", "fp32"), ("eager", "bf16"), ("openvino", "fp32"), ("openvino", "bf16"), ("onnx", "fp32")
    ],
}  # fmt: skip
ON_A_GPU: list[tuple[BackendName, Precision]] = [
    *((name, precision) for name in ("eager", "cudagraphs") for precision in ("fp32", "bf16", "fp16")),
    *((name, precision) for name in ("onnx", "tensorrt") for precision in ("fp32", "fp16")),
]  # fmt: skip
REPEATS = {"base": 2, "compact": 8}
COUNTED = ("reference", "eager fp32")
COLUMNS = [
    "case",
    "precision",
    "gmac",
    "seconds_per_frame",
    "floor",
    "ratio",
    "max_error",
    "psnr_db",
    "threads",
    "load",
]


class Reference:
    """A back end that runs the networks as they are, a frame at a time."""

    concurrent = True

    def __init__(self, networks: Networks) -> None:
        self.networks = networks
        self.device = next(networks.motion.parameters()).device

    def appearance(self, images: Tensor) -> Features:
        """F."""
        features: Features = self.networks.appearance(images)
        return features

    def motion(self, images: Tensor) -> Motion:
        """M."""
        motion: Motion = self.networks.motion(images)
        return motion

    def render(self, features: Features, source: Pose, driving: Pose, cues: Tensor) -> Layers:
        """W, then G."""
        layers: Layers = Renderer(self.networks)(features, source, driving, cues)
        return layers


def random_networks(name: str, device: torch.device) -> Networks:
    """Untrained networks with random biases, scales and statistics too, so that errors are visible."""
    torch.manual_seed(0)
    networks = build(VARIANTS[name])
    with torch.no_grad():
        for module in networks.modules().values():
            for key, value in module.state_dict().items():
                if key.endswith("running_var"):
                    value.uniform_(0.5, 1.5)
                elif value.is_floating_point() and (value.ndim == 1 or not value.any()):
                    value.add_(0.1 * torch.randn_like(value))
            module.to(device).eval()
        if name == "base":
            networks.warping.fourth.weight *= 15  # type: ignore[union-attr, operator]
            networks.generator.conv_img[0].weight *= 6  # type: ignore[union-attr, index]
    return networks


def random_pose(count: int, device: torch.device) -> Pose:
    """Plausible poses: keypoints within the crop, rotations by some degrees."""
    rotation = torch.linalg.qr(torch.eye(3) + 0.1 * torch.randn(count, 3, 3)).Q
    shift, scale = 0.05 * torch.randn(count, 3), 1 + 0.05 * torch.rand(count, 1)
    canonical = (0.4 * torch.randn(1, 21, 3)).expand(count, -1, -1)
    motion = Motion(rotation, shift, scale, canonical, 0.02 * torch.randn(count, 21, 3))
    return pose_of(motion).to(device)


@dataclass(frozen=True)
class Case:
    """One variant in one configuration, with one batch size."""

    variant: str
    way: str
    precision: Precision
    backend: Backend
    pictures: Tensor  # (B,3,S,S), driving
    features: Features
    source: Pose
    driving: Pose

    @property
    def name(self) -> str:
        threads = torch.get_num_threads()
        shared = f" on {threads} threads" if threads > 1 and self.pictures.device.type == "cpu" else ""
        return f"{self.variant} {self.way} x{len(self.pictures)}{shared}"

    @torch.inference_mode()
    def frame(self) -> Tensor:
        """M, W and G of the batch: pictures (B,3,S,S)."""
        self.backend.motion(self.pictures)
        layers = self.backend.render(self.features, self.source, self.driving)
        return compose(layers, self.features)


def ways_of(
    variant: str, networks: Networks, device: torch.device
) -> list[tuple[str, Precision, Callable[[], Backend]]]:
    """Name and precision of each configuration, and a function that makes its back end; the reference comes first."""

    def maker(name: BackendName, precision: Precision) -> Callable[[], Backend]:
        return lambda: make_backend(name, networks, precision, torch.get_num_threads())[0]

    backends = ON_A_CPU[variant] if device.type == "cpu" else ON_A_GPU
    return [
        ("reference", "fp32", lambda: Reference(networks)),
        *((f"{name} {precision}", precision, maker(name, precision)) for name, precision in backends),
    ]


def cases_of(variant: str, batches: list[int], device: torch.device) -> list[Case]:
    """The reference with one frame, then every other configuration and batch size; all have the same first frame."""
    networks = random_networks(variant, device)
    count, size = max(batches), networks.variant.input_size
    pictures = torch.rand(count, 3, size, size, device=device)
    source, driving = random_pose(1, device), random_pose(count, device)
    cases = []
    for way, precision, make in ways_of(variant, networks, device):
        try:
            backend = make()
        except UserError as error:
            print(f"{variant} {way} left out: {error}", file=sys.stderr)
            continue
        with torch.inference_mode():
            features = backend.appearance(pictures[:1])
        for batch in [1] if way == "reference" else batches:
            cases.append(
                Case(
                    variant,
                    way,
                    precision,
                    backend,
                    pictures[:batch],
                    {name: value.expand(batch, *value.shape[1:]) for name, value in features.items()},
                    source.expand(batch),
                    driving.rows(slice(batch)),
                )
            )
    return cases


def operations(case: Case) -> tuple[Tensor, float | None]:
    """The first picture, and the GMAC of a frame if they are counted."""
    if case.way not in COUNTED:
        return case.frame()[:1].float().cpu(), None
    with FlopCounterMode(display=False) as counter:
        picture = case.frame()[:1].float().cpu()
    return picture, round(counter.get_total_flops() / 2e9 / len(case.pictures), 2)


def measure(cases: list[Case], device: torch.device, repeats: int) -> list[Figure]:
    """A figure for each case; `ratio` is its speed relative to the reference's."""
    made = [operations(case) for case in cases]  # also a warm-up
    expected = made[0][0]
    clock_name, clock = clock_of(device)
    if device.type == "cpu" and torch.get_num_threads() > 1:
        # Threads that wait for each other use CPU time as well, so measure wall time, on an idle machine.
        clock_name, clock = "wall seconds", time.perf_counter
    seconds = fastest([case.frame for case in cases], clock, repeats)
    seconds = [spent / len(case.pictures) for spent, case in zip(seconds, cases, strict=True)]
    floors = floors_of(cases, made, device) if device.type == "cuda" else {}
    figures = []
    for case, spent, (picture, gmac) in zip(cases, seconds, made, strict=True):
        error = (picture - expected).abs()
        squared = error.square().mean()
        figure: Figure = {
            "case": case.name,
            "scope": "M + W + G, a frame",
            "precision": case.precision,
            "gmac": gmac,
            "seconds_per_frame": float(f"{spent:.4g}"),
            "floor": floors.get(case.name),
            "clock": clock_name,
            "repeats": repeats,
            "ratio": round(seconds[0] / spent, 3),
            "max_error": float(f"{error.max():.2g}"),
            "psnr_db": round(-10 * squared.log10().item(), 1) if squared > 0 else None,
            "contrast": round(expected.std().item(), 3),
        }
        figures.append(figure | machine(device))
    return figures


def floors_of(
    cases: list[Case], made: list[tuple[Tensor, float | None]], device: torch.device
) -> dict[str, float]:
    """Lower bounds on a frame's seconds by case name, from the eager layers' products and the weights."""
    products = next(
        gmac for case, (_, gmac) in zip(cases, made, strict=True) if case.way == "eager fp32" and gmac
    )
    reference = cases[0].backend
    assert isinstance(reference, Reference)
    networks = (reference.networks.motion, reference.networks.warping, reference.networks.generator)
    numbers = sum(parameter.numel() for network in networks for parameter in network.parameters())
    dtypes = {case.precision: HALF.get(case.precision, torch.float32) for case in cases}
    speeds = {precision: Speeds.of(device, dtype) for precision, dtype in dtypes.items()}
    return {
        case.name: speeds[case.precision].floor(
            products * 1e9, numbers * dtypes[case.precision].itemsize, len(case.pictures)
        )
        for case in cases
    }


def main() -> int:
    """Run the cases; 1 if a ratio fell below a committed one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", nargs="+", choices=sorted(VARIANTS), default=sorted(VARIANTS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument(
        "--repeats", type=int, help="runs, of which the fastest counts (default: base 2, compact 8)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare with these figures")
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    figures = []
    for variant in options.variants:
        repeats = options.repeats or REPEATS[variant]
        for figure in measure(cases_of(variant, options.batches, device), device, repeats):
            print(json.dumps(figure), flush=True)
            figures.append(figure)
    print(table(figures, COLUMNS))
    if options.write:
        write(figures, options.write)
    fallen = regressions(figures, read(options.check)) if options.check else []
    for sentence in fallen:
        print(sentence, file=sys.stderr)
    return 1 if fallen else 0


if __name__ == "__main__":
    sys.exit(main())
