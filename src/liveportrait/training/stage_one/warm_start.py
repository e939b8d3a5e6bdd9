"""The compact model's warm start: M learns from single labelled frames, then F, W and G from pairs of frames driven by
labelled keypoints or by M.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from liveportrait.errors import UserError
from liveportrait.metrics.perceptual import PerceptualDistance
from liveportrait.networks import COMPACT, Networks, compact
from liveportrait.networks.compact.generator import blend
from liveportrait.networks.compact.motion import MotionExtractor
from liveportrait.networks.geometry import pose_of, transform_keypoints
from liveportrait.networks.interface import CROP_SIDE, Motion
from liveportrait.networks.keypoints import LEFT_EYE, MOUTH, RIGHT_EYE
from liveportrait.training.checkpoint import load_average
from liveportrait.training.data.batches import batches, motion_of, pictures_of
from liveportrait.training.data.corpora import Corpora
from liveportrait.training.data.samplers import FrameSampler, PairSampler
from liveportrait.training.losses.motion import motion_losses
from liveportrait.training.losses.rendering import Rendered, region_weights, render_losses, unneeded_motion
from liveportrait.training.phase import compile_function, compile_networks, network_phase, weighted
from liveportrait.training.stage_one.config import RenderSettings, StageOneConfig
from liveportrait.training.stage_one.validation import measure_motion, measure_rendering

VALIDATION_BATCHES, VALIDATION_BATCH = 12, 4  # of rendering
VALIDATE_MOTION_EVERY, VALIDATE_RENDERING_EVERY = 250, 500  # steps
REACH_LR_SCALE = 5.0  # at the common rate Adam would hardly move the logarithmic reaches
FACE_SHARE = 0.56  # side of the perceptual crop, as a share of the picture


def train_motion(config: StageOneConfig, corpora: Corpora) -> MotionExtractor:
    """Train M to the end of its schedule, from its checkpoint if there is one; returns the moving average."""
    settings, device = config.motion, torch.device(config.device)
    torch.manual_seed(config.seed)
    _, network, _, _ = compact.build(compact.Sizes())
    labels = corpora.train.motion
    network.set_statistics(transform_keypoints(labels), labels)
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    phase, average = network_phase("motion", "motion", network.train(), config, settings.schedule)
    detailed = compile_function(network.detailed, device) if config.compile else network.detailed

    def terms(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        picture, label = pictures_of(batch, "picture", device), motion_of(batch, "", device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.bf16):
            motion, coarse = detailed(picture, settings.patch_jitter)
        return motion_losses(motion, coarse, label)

    losses = weighted("motion", terms, settings.weights)
    sampler = FrameSampler(corpora.train, settings.blinks)

    def validate() -> dict[str, float]:
        return measure_motion(average, corpora.held_out, device)

    with closing(phase.batches(sampler, config.seed, corpora.stream)) as drawn:
        phase.run(drawn, losses, validate, VALIDATE_MOTION_EVERY)
    return average


class Renderer(nn.Module):
    """F, W and G as one module, so that they share an optimiser and an average."""

    def __init__(self) -> None:
        super().__init__()
        self.appearance, _, self.warping, self.generator = compact.build(compact.Sizes())

    def forward(
        self, source: Tensor, source_motion: Motion, driving_motion: Motion
    ) -> tuple[dict[str, Tensor], Rendered]:
        """The maps that W warped, and the picture that G made of them."""
        features = self.appearance(source)
        warped = self.warping(features, pose_of(source_motion), pose_of(driving_motion))
        painting, logits = self.generator.layers(warped)
        return warped, Rendered(blend(warped["image"], painting, logits), painting, logits)


class RenderTrainer:
    """Trains one phase of rendering."""

    def __init__(
        self,
        config: StageOneConfig,
        number: int,
        motion: MotionExtractor | None = None,
        perceptual: Path | None = None,
    ) -> None:
        """`perceptual`: weights of the network for the perceptual term; without them it is left out."""
        device = torch.device(config.device)
        self.config, self.number, self.device = config, number, device
        self.settings: RenderSettings = config.render[number]
        self.motion = None if motion is None else motion.eval().requires_grad_(False)
        if self.settings.needs_motion and motion is None:
            raise ValueError("own_motion and magnified need a trained M")
        wanted = perceptual if self.settings.weights.perceptual > 0 else None
        self.perceptual = PerceptualDistance(wanted).to(device) if wanted else None
        torch.manual_seed(config.seed)
        self.network = Renderer().to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(self, corpora: Corpora, start: Renderer | None) -> Renderer:
        """Train to the end of the schedule, from its checkpoint if there is one; returns the moving average."""
        if start is not None:
            self.network.load_state_dict(start.state_dict())
        settings, config = self.settings, self.config
        if settings.only_generator:
            self.network.requires_grad_(False)
            self.network.generator.requires_grad_(True)
        learned = [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]
        reach = [p for name, p in learned if name.endswith("log_reach")]
        others = [p for name, p in learned if not name.endswith("log_reach")]
        groups = [{"params": others, "lr_scale": 1.0}, {"params": reach, "lr_scale": REACH_LR_SCALE}]
        name = f"render-{self.number}"
        phase, average = network_phase(name, "render", self.network, config, settings.schedule, groups)
        if config.compile:
            compile_networks([self.network], self.device)
        check = batches(PairSampler(corpora.held_out, settings.size), VALIDATION_BATCH, config.seed)
        validation = [next(check) for _ in range(VALIDATION_BATCHES)]

        def validate() -> dict[str, float]:
            figures, grid = measure_rendering(average, validation, self.device, config.bf16)
            phase.writer.add_image("held_out/samples", grid, phase.state.samples)
            shown = (grid.permute(1, 2, 0).cpu().numpy() * 255).astype(np.uint8)
            cv2.imwrite(str(phase.folder / f"{name}.png"), shown[:, :, ::-1])
            return figures

        sampler = PairSampler(corpora.train, settings.size, settings.mix)
        losses = weighted("render", self.terms, settings.weights)
        with closing(phase.batches(sampler, config.seed + 1 + self.number, corpora.stream)) as drawn:
            phase.run(drawn, losses, validate, VALIDATE_RENDERING_EVERY)
        return average

    def terms(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The unweighted loss terms of one batch."""
        device, weights = self.device, self.settings.weights
        source, target = (pictures_of(batch, f"{role}_picture", device) for role in ("source", "driving"))
        source_motion, driving_motion = (
            motion_of(batch, f"{role}_", device) for role in ("source", "driving")
        )
        label = pose_of(driving_motion).keypoints
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.config.bf16):
            if self.motion is not None and float(torch.rand(())) < self.settings.own_motion:
                source_motion, driving_motion = read_motion(self.motion, source, target)
            warped, rendered = self.network(source, source_motion, driving_motion)
            terms = render_losses(
                rendered, warped, target, region_weights(label, self.settings.size, weights)
            )
            terms["still"] = unneeded_motion(
                warped["flow"], source, target, pose_of(source_motion), pose_of(driving_motion)
            )
            if self.perceptual is not None:
                terms["perceptual"] = self.perceptual(*face_crop(rendered.picture, target))
            if self.motion is not None and weights.magnified:
                terms["magnified"] = magnified(self.motion, rendered.picture, target, label[..., :2])
        return terms


@torch.no_grad()
def read_motion(motion: MotionExtractor, source: Tensor, target: Tensor) -> tuple[Motion, Motion]:
    """M's motions of both pictures (B,3,S,S), resized to its input size."""
    full = [nn.functional.interpolate(t, size=CROP_SIDE, mode="bilinear") for t in (source, target)]
    both: Motion = motion(torch.cat(full))
    return both.rows(slice(len(source))), both.rows(slice(len(source), None))


def face_crop(picture: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """A jittered crop near the centre, where the face is; full pictures would cost three times as much."""
    size = picture.shape[-1]
    side = int(size * FACE_SHARE) // 16 * 16
    free = size - side
    corner = (free / 2 + torch.randn(2) * 0.12 * size).clamp(0, free).int().tolist()
    window = (..., slice(corner[0], corner[0] + side), slice(corner[1], corner[1] + side))
    return picture[window], target[window]


def magnified(motion: MotionExtractor, picture: Tensor, target: Tensor, keypoints: Tensor) -> Tensor:
    """Difference between M's eye and mouth patches in the rendered picture and in the driving frame.

    Pictures (B,3,S,S), driving keypoints (B,21,2).
    """
    rows = list(RIGHT_EYE + LEFT_EYE + MOUTH)
    with torch.no_grad():
        wanted, wanted_codes = motion.magnify(target, keypoints)
    found, codes = motion.magnify(picture, keypoints)
    points = (found - wanted)[:, rows].abs().mean() * 10
    code = torch.stack([(a - b).abs().mean() for a, b in zip(codes, wanted_codes, strict=True)]).mean()
    return points + 0.1 * code


def train_rendering(config: StageOneConfig, corpora: Corpora, perceptual: Path | None) -> None:
    """Train the phases of rendering in turn, each from the average of the one before."""
    renderer: Renderer | None = None
    for number, phase in enumerate(config.render):
        motion = None
        if phase.needs_motion:
            motion = trained_motion(config)
            if motion is None:
                raise UserError(
                    f"render[{number}] needs a trained M in {config.output}: run --part motion first."
                )
            motion = motion.to(config.device)
        if renderer is not None and phase.earlier_warping:
            mix_warping(renderer, trained_renderer(rendering_checkpoints(config)[0]), phase.earlier_warping)
        renderer = RenderTrainer(config, number, motion, perceptual).run(corpora, renderer)


def mix_warping(renderer: Renderer, earlier: Renderer, share: float) -> None:
    """Average W with an earlier W of the same run (Wortsman et al. 2022, "Model soups")."""
    theirs = earlier.warping.state_dict()
    for name, value in renderer.warping.state_dict().items():
        value.lerp_(theirs[name], share)


def warm_started(config: StageOneConfig) -> tuple[Networks, list[Path]]:
    """The networks of the warm start, and their checkpoints."""
    motion, done = trained_motion(config), rendering_checkpoints(config)
    if motion is None or not done:
        raise UserError(f"{config.output} has no trained M or no rendering phase: train the parts first.")
    renderer = trained_renderer(done[-1])
    networks = Networks(COMPACT, renderer.appearance, motion, renderer.warping, renderer.generator)
    return networks, [Path(config.output) / "motion.safetensors", *done]


def trained_motion(config: StageOneConfig) -> MotionExtractor | None:
    """M of the run's warm start, or None if there is none yet."""
    path = Path(config.output) / "motion.safetensors"
    if not path.exists():
        return None
    _, network, _, _ = compact.build(compact.Sizes())
    return load_average(path, "motion", network).eval()


def trained_renderer(checkpoint: Path) -> Renderer:
    """F, W and G of a rendering phase."""
    return load_average(checkpoint, "render", Renderer())


def rendering_checkpoints(config: StageOneConfig) -> list[Path]:
    """The checkpoints of the rendering phases that have begun, in order."""
    paths = [Path(config.output) / f"render-{number}.safetensors" for number in range(len(config.render))]
    return [path for path in paths if path.exists()]
