"""Differentiable measurement of how far eyes and lips are open in a picture: c_p of the paper's stage two.

The face mesh measures openings well but passes no gradient. This small network reads three patches, placed by points
that expressions do not move (eye corners, base of the nose). A rendered source keeps its pose, so the source's own
landmarks place the patches. It is trained on labelled frames, and on rendered pictures measured by the face mesh, which
are what it has to read later. Openings beyond what people show are learned by cutting patches of another height: a
patch f times as high shows 1/f of the opening.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from liveportrait.face.canonical import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS
from liveportrait.motion.lifting import MESH_ROWS
from liveportrait.networks.interface import CROP_SIDE, HALF_SIDE
from liveportrait.training.data.batches import batches, pictures_of
from liveportrait.training.data.corpus import Corpus
from liveportrait.training.data.samplers import Example
from liveportrait.training.phase import Objective, network_phase
from liveportrait.training.stage_two.closed_form import RenderedOpenings
from liveportrait.training.stage_two.config import StageTwoConfig
from liveportrait.training.stage_two.frozen_networks import to_pictures
from liveportrait.training.stage_two.samplers import ratios_of, readable_rows
from liveportrait.types import Array

NOSE_BASE = 2  # of the mesh
EYE_SIZE, MOUTH_SIZE = (32, 48), (48, 48)  # height and width of the patches, px
EYE_REACH = 0.85  # half width of an eye's patch, in eye widths
# Half width of the mouth's patch and its centre's distance below the nose's base, in outer eye-corner distances.
MOUTH_REACH, MOUTH_DROP = 0.5, 0.42


class Patch(NamedTuple):
    """A patch of the crop: p = centre + u·across + v·down for u, v in [-1, 1], in crop coordinates in [-1, 1]."""

    centre: Tensor  # (B,2)
    across: Tensor  # (B,2)
    down: Tensor  # (B,2)

    def stretched(self, factor: Tensor) -> Patch:
        """The same patch, `factor` (B,) times as high, so that it shows 1/factor of an opening."""
        return self._replace(down=self.down * factor[:, None])

    def jittered(self, amount: float) -> Patch:
        """The patch displaced and resized at random, by about `amount` half widths."""
        away, size = torch.randn_like(self.centre), (amount * torch.randn_like(self.centre[:, :1])).exp()
        return Patch(
            self.centre + amount * (away[:, :1] * self.across + away[:, 1:] * self.down),
            self.across * size,
            self.down * size,
        )


def patches(landmarks: Tensor) -> tuple[Patch, Patch, Patch]:
    """Patches of the picture's left eye, its right eye (mirrored) and the mouth, from landmarks (B,111,2) px of 256."""

    def at(mesh_row: int) -> Tensor:
        return landmarks[:, MESH_ROWS.index(mesh_row)] / HALF_SIDE - 1

    def eye(corners: tuple[int, int], mirror: float) -> Patch:
        first, last = at(corners[0]), at(corners[1])
        half = (last - first) / 2
        across = half * 2 * EYE_REACH
        return Patch((first + last) / 2, across * mirror, turned(across) * EYE_SIZE[0] / EYE_SIZE[1])

    width = at(LEFT_EYE_CORNERS[1]) - at(RIGHT_EYE_CORNERS[0])
    # A turned head looks narrow between the outer corners, but the nose's distance from the eyes does not shrink.
    eyes = (at(LEFT_EYE_CORNERS[1]) + at(RIGHT_EYE_CORNERS[0])) / 2
    size = torch.maximum(width.norm(dim=1), 1.6 * (at(NOSE_BASE) - eyes).norm(dim=1))[:, None]
    axis = F.normalize(width, dim=1) * size
    mouth = Patch(at(NOSE_BASE) + MOUTH_DROP * turned(axis), axis * MOUTH_REACH, turned(axis) * MOUTH_REACH)
    return eye(RIGHT_EYE_CORNERS, 1.0), eye(LEFT_EYE_CORNERS, -1.0), mouth


def turned(axis: Tensor) -> Tensor:
    """Vectors (B,2) rotated by a quarter turn: across becomes down."""
    return torch.stack([-axis[:, 1], axis[:, 0]], 1)


def cut(picture: Tensor, patch: Patch, size: tuple[int, int]) -> Tensor:
    """The patch (B,3,h,w) of pictures (B,3,S,S)."""
    height, width = size
    v = (torch.arange(height, device=picture.device) + 0.5) / height * 2 - 1
    u = (torch.arange(width, device=picture.device) + 0.5) / width * 2 - 1
    across, down = patch.across[:, None, None], patch.down[:, None, None]
    grid = patch.centre[:, None, None] + u[None, None, :, None] * across + v[None, :, None, None] * down
    return F.grid_sample(picture, grid, padding_mode="border", align_corners=False)


class PatchRegressor(nn.Module):
    """Predicts one opening from a patch."""

    def __init__(self, size: tuple[int, int], channels: int = 24) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs, (height, width) = 3, size
        for level in range(4):
            outputs = channels * (level + 2) // 2
            layers += [
                nn.Conv2d(inputs, outputs, 3, 1 if level == 0 else 2, 1),
                nn.GroupNorm(4, outputs),
                nn.SiLU(),
            ]
            inputs = outputs
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Sequential(
            nn.Linear(inputs * (height // 8) * (width // 8), 64), nn.SiLU(), nn.Linear(64, 1)
        )

    def forward(self, patch: Tensor) -> Tensor:
        """Openings (B,) of patches (B,3,h,w), RGB in [0, 1]."""
        level = patch.mean((2, 3), keepdim=True)  # brightness and contrast say nothing about openings
        spread = patch.std((1, 2, 3), keepdim=True) + 0.05
        return self.head(self.features((patch - level) / spread))[:, 0] * 0.2 + 0.25


class OpeningRegressor(nn.Module):
    """Predicts the openings of both eyes and of the lips from a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.eye, self.mouth = PatchRegressor(EYE_SIZE), PatchRegressor(MOUTH_SIZE)

    def forward(self, picture: Tensor, landmarks: Tensor) -> Tensor:
        """Openings (B,3): the picture's left eye, its right eye, the lips; see `face.measures`.

        Pictures (B,3,S,S), RGB in [0, 1]; landmarks (B,111,2), px of 256, of the face or of the source that it was
        rendered from.
        """
        return self.read(picture, patches(landmarks))

    def read(self, picture: Tensor, where: tuple[Patch, Patch, Patch]) -> Tensor:
        """Openings (B,3) as shown by three given patches."""
        if picture.shape[-1] > CROP_SIDE:
            picture = F.interpolate(picture, size=CROP_SIDE, mode="area")
        right, left, mouth = where
        eyes = [cut(picture, patch, EYE_SIZE) for patch in (right, left)]
        both = self.eye(torch.cat(eyes)).unflatten(0, (2, -1))
        return torch.stack([*both, self.mouth(cut(picture, mouth, MOUTH_SIZE))], 1)


def opening_losses(
    regressor: OpeningRegressor, picture: Tensor, landmarks: Tensor, ratios: Tensor
) -> dict[str, Tensor]:
    """Mean |read − labelled opening| of eyes and lips, on jittered and stretched patches.

    Labels `ratios` (B,3); errors are in openings as the stretched patch shows them.
    """
    factors = (0.45 * (2 * torch.rand(3, len(picture), device=picture.device) - 1)).exp()
    where = [
        patch.jittered(0.06).stretched(factor)
        for patch, factor in zip(patches(landmarks), factors, strict=True)
    ]
    read = regressor.read(picture, (where[0], where[1], where[2]))
    error = F.smooth_l1_loss(read, ratios / factors.T, beta=0.02, reduction="none")
    return {"eyes": error[:, :2].mean(), "lips": error[:, 2].mean()}


VALIDATE_EVERY = 250  # steps
VALIDATION_FRAMES = 400


@dataclass(frozen=True)
class MeasuredFrames:
    """N pictures with the landmarks that place the patches, and their openings."""

    frames: NDArray[np.uint8]  # (N,256,256,3), may be a memory map
    landmarks: Array  # (N,111,2) px; for a rendered picture, its source's
    ratios: Array  # (N,3)
    rows: NDArray[np.int64]  # indices of the pictures to use

    def __call__(self, rng: np.random.Generator) -> Example:
        """A random frame: picture (256,256,3) uint8, landmarks (111,2), ratios (3,)."""
        row = int(rng.choice(self.rows))
        return {
            "picture": np.asarray(self.frames[row]),
            "landmarks": self.landmarks[row],
            "ratios": self.ratios[row],
        }


def labelled_frames(corpus: Corpus) -> MeasuredFrames:
    """The frames of a corpus in which both eyes can be measured."""
    return MeasuredFrames(corpus.frames, corpus.landmarks, ratios_of(corpus.landmarks), readable_rows(corpus))


def rendered_frames(rendered: RenderedOpenings) -> MeasuredFrames:
    """Rendered pictures with their openings as measured by the face mesh."""
    rows = np.arange(len(rendered.frames))
    return MeasuredFrames(rendered.frames, rendered.landmarks, rendered.measured, rows)


def train_opening_regressor(
    config: StageTwoConfig, corpus: Corpus, held_out: Corpus, render: Callable[[], RenderedOpenings | None]
) -> OpeningRegressor:
    """Train to the end of the schedule, from the checkpoint if there is one; returns the moving average.

    `render` returns the rendered pictures; it is called only if training is not finished yet.
    """
    torch.manual_seed(config.seed)
    regressor = OpeningRegressor().to(config.device)
    schedule = config.reader.schedule
    phase, average = network_phase("reader", "reader", regressor, config, schedule)
    if phase.finished:
        return average
    labelled, made = labelled_frames(corpus), render()
    rendered = None if made is None else rendered_frames(made)
    device = torch.device(config.device)

    def draw(rng: np.random.Generator) -> Example:
        return labelled(rng) if rendered is None or rng.random() < 0.5 else rendered(rng)

    def losses(batch: dict[str, Tensor]) -> list[Objective]:
        picture = pictures_of(batch, "picture", device)
        terms = opening_losses(regressor, picture, batch["landmarks"].to(device), batch["ratios"].to(device))
        return [Objective("reader", terms["eyes"] + terms["lips"], terms)]

    def validate() -> dict[str, float]:
        return opening_errors(average, labelled_frames(held_out), device)

    drawn = batches(draw, phase.rank_slice, config.seed, phase.state.step * schedule.accumulate)
    phase.run(drawn, losses, validate, VALIDATE_EVERY)
    return average


@torch.no_grad()
def opening_errors(
    regressor: OpeningRegressor, frames: MeasuredFrames, device: torch.device
) -> dict[str, float]:
    """Mean absolute error and correlation of the predicted openings, for eyes and for lips, on up to 400 frames."""
    rows = np.random.default_rng(0).permutation(frames.rows)[:VALIDATION_FRAMES]
    read = []
    for start in range(0, len(rows), 50):
        part = rows[start : start + 50]
        landmarks = torch.from_numpy(frames.landmarks[part]).to(device)
        read.append(regressor(to_pictures(frames.frames[part], device), landmarks).cpu().numpy())
    found, wanted = np.concatenate(read), frames.ratios[rows]
    figures = {}
    for name, columns in (("eyes", slice(0, 2)), ("lips", slice(2, 3))):
        a, b = found[:, columns].ravel(), wanted[:, columns].ravel()
        figures[f"{name}_error"] = float(np.abs(a - b).mean())
        figures[f"{name}_correlation"] = float(np.corrcoef(a, b)[0, 1])
    return figures
