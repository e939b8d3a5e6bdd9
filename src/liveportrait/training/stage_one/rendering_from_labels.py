"""Stage one, rendering: F, W and G learn from pairs of frames, driven by labelled keypoints or by M."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from liveportrait.metrics.perceptual import PerceptualDistance
from liveportrait.networks import COMPACT, build
from liveportrait.networks.compact.generator import Generator, blend
from liveportrait.networks.compact.motion import MotionExtractor
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import CROP_SIDE, Motion
from liveportrait.networks.keypoints import LEFT_EYE, MOUTH, RIGHT_EYE
from liveportrait.training.checkpoint import TrainingState, average_of
from liveportrait.training.compile import compile_networks
from liveportrait.training.config import RenderPhase, StageOneConfig
from liveportrait.training.data.batches import batches, motion_of, pictures_of
from liveportrait.training.data.corpora import Corpora
from liveportrait.training.data.samplers import PairSampler
from liveportrait.training.losses.rendering import (
    Rendered,
    laplacian,
    region_weights,
    render_losses,
    unneeded_motion,
    weighted_sum,
)
from liveportrait.training.phase import BETAS, Phase

VALIDATION_BATCHES, VALIDATION_BATCH = 12, 4
VALIDATE_EVERY = 500  # steps
REACH_PACE = 5.0  # Adam would hardly move the logarithmic reaches at the common rate
FACE_SHARE = 0.56  # side of the perceptual crop, as a share of the picture


class Renderer(nn.Module):
    """F, W and G as one module, so that they share an optimiser and an average."""

    def __init__(self) -> None:
        super().__init__()
        networks = build(COMPACT)
        self.appearance, self.warping, self.generator = (
            networks.appearance,
            networks.warping,
            networks.generator,
        )

    def forward(
        self, source: Tensor, source_motion: Motion, driving_motion: Motion
    ) -> tuple[dict[str, Tensor], Rendered]:
        """What W moved and what G made of it."""
        features = self.appearance(source)
        warped = self.warping(features, pose_of(source_motion), pose_of(driving_motion))
        assert isinstance(self.generator, Generator)
        painting, logits = self.generator.layers(warped)
        return warped, Rendered(blend(warped["image"], painting, logits), painting, logits)


class RenderTrainer:
    """One phase of rendering."""

    def __init__(
        self,
        config: StageOneConfig,
        number: int,
        motion: MotionExtractor | None = None,
        perceptual: Path | None = None,
    ) -> None:
        """`perceptual`: weights of the network for that term, which is left out without them."""
        device = torch.device(config.device)
        self.config, self.number, self.device = config, number, device
        self.settings: RenderPhase = config.render[number]
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
        schedule, settings = self.settings.schedule, self.settings
        if settings.only_generator:
            self.network.requires_grad_(False)
            self.network.generator.requires_grad_(True)
        learned = [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]
        reach = [p for name, p in learned if name.endswith("log_reach")]
        others = [p for name, p in learned if not name.endswith("log_reach")]
        groups = [{"params": others, "pace": 1.0}, {"params": reach, "pace": REACH_PACE}]
        optimizer = torch.optim.AdamW(groups, betas=BETAS, weight_decay=schedule.weight_decay)
        average = average_of(self.network)
        state = TrainingState({"render": self.network}, {"render": optimizer}, {"render": average})
        phase = Phase(f"render-{self.number}", self.config, schedule, state)
        if self.config.compile:
            compile_networks([self.network], self.device)
        draw = PairSampler(corpora.train, settings.size, settings.mix)
        seed = self.config.seed + 1 + self.number
        loader = phase.batches(draw, seed, corpora.stream)
        check = batches(PairSampler(corpora.held_out, settings.size), VALIDATION_BATCH, self.config.seed)
        validation = [next(check) for _ in range(VALIDATION_BATCHES)]
        assert isinstance(average, Renderer)
        try:
            while not phase.finished:
                batch = next(loader)
                phase.seed()
                terms = self.losses(batch)
                phase.step(weighted_sum(terms, settings.weights), terms)
                phase.log(lambda: self.validate(average, validation, phase), VALIDATE_EVERY)
        finally:
            loader.close()
        return average

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of one batch."""
        device, weights = self.device, self.settings.weights
        source, target = (pictures_of(batch, f"{role}_picture", device) for role in ("source", "driving"))
        source_motion, driving_motion = (
            motion_of(batch, f"{role}_", device) for role in ("source", "driving")
        )
        label = pose_of(driving_motion).keypoints
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.config.bf16):
            if self.motion is not None and float(torch.rand(())) < self.settings.own_motion:
                source_motion, driving_motion = self._own_motion(source, target)
            warped, rendered = self.network(source, source_motion, driving_motion)
            terms = render_losses(
                rendered, warped, target, region_weights(label, self.settings.size, weights)
            )
            terms["still"] = unneeded_motion(
                warped["flow"], source, target, pose_of(source_motion), pose_of(driving_motion)
            )
            if self.perceptual is not None:
                terms["perceptual"] = self.perceptual(*self._face_crop(rendered.picture, target))
            if self.motion is not None and weights.magnified:
                terms["magnified"] = self._magnified(rendered.picture, target, label[..., :2])
        return terms

    @torch.no_grad()
    def _own_motion(self, source: Tensor, target: Tensor) -> tuple[Motion, Motion]:
        assert self.motion is not None
        full = [nn.functional.interpolate(t, size=CROP_SIDE, mode="bilinear") for t in (source, target)]
        both = self.motion(torch.cat(full))
        first, second = (
            Motion(*(v[part] for v in both)) for part in (slice(len(source)), slice(len(source), None))
        )
        return first, second

    def _face_crop(self, picture: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """A jittered crop near the middle: the face is there, and full pictures cost three times as much."""
        size = picture.shape[-1]
        side = int(size * FACE_SHARE) // 16 * 16
        free = size - side
        corner = (free / 2 + torch.randn(2) * 0.12 * size).clamp(0, free).int().tolist()
        window = (..., slice(corner[0], corner[0] + side), slice(corner[1], corner[1] + side))
        return picture[window], target[window]

    def _magnified(self, picture: Tensor, target: Tensor, keypoints: Tensor) -> Tensor:
        """What M's eye and mouth patches see in the rendered picture against the driving frame."""
        assert self.motion is not None
        rows = list(RIGHT_EYE + LEFT_EYE + MOUTH)
        with torch.no_grad():
            wanted, wanted_codes = self.motion.magnify(target, keypoints)
        found, codes = self.motion.magnify(picture, keypoints)
        points = (found - wanted)[:, rows].abs().mean() * 10
        code = torch.stack([(a - b).abs().mean() for a, b in zip(codes, wanted_codes, strict=True)]).mean()
        return points + 0.1 * code

    @torch.no_grad()
    def validate(
        self, network: Renderer, validation: Sequence[dict[str, Tensor]], phase: Phase
    ) -> dict[str, float]:
        """PSNR in dB of the output, of the warped source alone and of the source, on fixed held-out pairs.

        sharpness: Laplacian energy of the output against the driving frame's. Also draws the sample grid.
        """
        sums = {"psnr": 0.0, "psnr_warp": 0.0, "psnr_copy": 0.0, "sharpness": 0.0}
        rows = []
        for batch in validation:
            source, target = (pictures_of(batch, f"{r}_picture", self.device) for r in ("source", "driving"))
            motions = (motion_of(batch, f"{r}_", self.device) for r in ("source", "driving"))
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.bf16):
                warped, (picture, painting, logits) = network(source, *motions)
            for name, shown in (("psnr", picture), ("psnr_warp", warped["image"]), ("psnr_copy", source)):
                sums[name] += float(-10 * (shown - target).square().mean((1, 2, 3)).log10().mean())
            energy, wanted = (laplacian(p.float()).square().mean((1, 2, 3)) for p in (picture, target))
            sums["sharpness"] += float((energy / wanted).mean())
            tiles = [
                source,
                target,
                picture,
                warped["image"],
                painting,
                logits.sigmoid().expand(-1, 3, -1, -1),
            ]
            rows.append(torch.cat([tile[0].float() for tile in tiles], dim=2))
        grid = torch.cat(rows[:6], dim=1).clamp(0, 1)
        phase.writer.add_image("held_out/samples", grid, phase.state.samples)
        shown_grid = (grid.permute(1, 2, 0).cpu().numpy() * 255).astype(np.uint8)
        cv2.imwrite(str(phase.folder / f"{phase.name}.png"), shown_grid[:, :, ::-1])
        return {name: value / len(validation) for name, value in sums.items()}
