"""Rendered pairs as batches of patches, drawn by how much the mouth changes, and augmented."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from liveportrait.errors import UserError
from liveportrait.networks.compact.painter import LUMA
from liveportrait.networks.keypoints import MIRROR, MOUTH
from liveportrait.training.data.batches import generator
from liveportrait.types import Array

REAL, CLOSED = 0, 1  # kinds of pairs: two frames, or a target and its source closed by a warp
MIRRORED = [MOUTH.index(MIRROR[keypoint]) for keypoint in MOUTH]  # points of a shape
UNCHANGED_ODDS = 0.03  # odds of a pair whose mouth does not change, in half widths of the patch
CUES_SHARE = 0.7  # share of the pairs whose cues the network gets
CUE_NOISE = 0.08  # standard deviation, as cues may come from another mouth
GREY_SHARE = 0.03  # share without colour, on top of those rendered without
GAIN, TINT, GAMMA = 0.15, 0.07, 0.25


class Patches(NamedTuple):
    """A batch of pairs, see `MouthPainter.repaint`."""

    patches: Tensor  # (B,10,64,80) in [0, 1]
    own_shape: Tensor  # (B,6,2)
    shape: Tensor  # (B,6,2) that the network gets
    shown_shape: Tensor  # (B,6,2) in the target
    look: Tensor  # (B,4)
    cues: Tensor  # (B,5)
    target: Tensor  # (B,3,64,80)


class PatchSet:
    """All pairs rendered so far."""

    def __init__(self, folder: Path) -> None:
        """Raises `UserError` if there are none."""
        self.folder = folder
        self._chunks: dict[str, dict[str, NDArray[np.generic]]] = {}
        if not self.refresh():
            raise UserError(f"No rendered pairs in {folder}: run the part 'pairs' first.")

    def refresh(self) -> int:
        """Read the files that are new; returns the number of pairs."""
        for path in sorted(self.folder.glob("[0-9]*.npz")):
            if path.name not in self._chunks:
                with np.load(path, allow_pickle=False) as stored:
                    self._chunks[path.name] = {name: stored[name] for name in stored.files}
        if not self._chunks:
            return 0
        chunks = [self._chunks[name] for name in sorted(self._chunks)]
        self._pixels = [chunk["patches"] for chunk in chunks]
        self._starts = np.cumsum([0, *(len(pixels) for pixels in self._pixels)])
        self.about: dict[str, Array] = {
            name: np.concatenate([np.asarray(chunk[name], np.float32) for chunk in chunks])
            for name in chunks[0]
            if name != "patches"
        }
        opened = self.opening - self.own_opening
        widened = self._width("shape") - self._width("source_shape")
        odds = np.abs(opened) + 0.5 * np.abs(widened) + UNCHANGED_ODDS
        self._odds = odds / odds.sum()
        return len(odds)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def opening(self) -> Array:
        """Distance (N,) between the target's inner lips, in half widths of the patch."""
        return _distance(self.about["shown_shape"], 2, 3)

    @property
    def own_opening(self) -> Array:
        """The same for the source."""
        return _distance(self.about["source_shape"], 2, 3)

    def _width(self, name: str) -> Array:
        return _distance(self.about[name], 0, 1)

    def take(self, rows: NDArray[np.integer]) -> Patches:
        """Some of the pairs, without augmentation."""
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        pixels = np.stack(
            [self._pixels[chunk][row - self._starts[chunk]] for row, chunk in zip(rows, chunks, strict=True)]
        )
        every = torch.from_numpy(pixels).float() / 255
        own, shape, shown, look, cues = (
            torch.from_numpy(self.about[name][rows])
            for name in ("source_shape", "shape", "shown_shape", "looking", "cues")
        )
        patches = torch.cat([every[:, :9], every[:, 12:]], 1)
        return Patches(patches, own, shape, shown, look, cues, every[:, 9:12])

    def batches(self, seed: int, size: int, start: int = 0, refresh_every: int = 0) -> Iterator[Patches]:
        """Endless augmented batches from number `start`; pairs whose mouths change are drawn more often.

        Newly rendered pairs are added every `refresh_every` batches.
        """
        while True:
            if refresh_every and start % refresh_every == 0:
                self.refresh()
            rng = generator(seed, start, 0)
            yield augmented(self.take(rng.choice(len(self), size, p=self._odds)), rng)
            start += 1


def augmented(batch: Patches, rng: np.random.Generator) -> Patches:
    """The batch with half of the pairs mirrored, all recoloured, some without colour; cues noisy or missing."""
    count = len(batch.target)

    def drawn(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, *shape)).astype(np.float32))

    colours = torch.cat([batch.patches[:, :9], batch.target], 1).unflatten(1, (4, 3))
    gamma, gain = drawn(-GAMMA, GAMMA, 1, 1, 1, 1).exp(), 1 + drawn(-GAIN, GAIN, 1, 1, 1, 1)
    gain = gain * (1 + drawn(-TINT, TINT, 1, 3, 1, 1))
    colours = (colours.clamp(1e-3, 1) ** gamma * gain).clamp(0, 1)
    luma = (colours * colours.new_tensor(LUMA).view(1, 1, 3, 1, 1)).sum(2, keepdim=True)
    colours = torch.where(drawn(0, 1, 1, 1, 1, 1) < GREY_SHARE, luma.expand_as(colours), colours)
    flat = colours.flatten(1, 2)
    patches, target = torch.cat([flat[:, :9], batch.patches[:, 9:]], 1), flat[:, 9:]
    noise = torch.from_numpy(rng.normal(size=(count, 4)).astype(np.float32)) * CUE_NOISE
    cues = torch.cat([batch.cues[:, :4] + noise, batch.cues[:, 4:]], 1) * (drawn(0, 1, 1) < CUES_SHARE)
    flip = drawn(0, 1) < 0.5
    across, sideways = torch.tensor([-1.0, 1.0]), torch.tensor([-1.0, 1.0, -1.0, 1.0])

    def turned(picture: Tensor) -> Tensor:
        return torch.where(flip[:, None, None, None], picture.flip(-1), picture)

    def mirrored(shape: Tensor) -> Tensor:
        return torch.where(flip[:, None, None], shape[:, MIRRORED] * across, shape)

    return Patches(
        turned(patches),
        mirrored(batch.own_shape),
        mirrored(batch.shape),
        mirrored(batch.shown_shape),
        torch.where(flip[:, None], batch.look * sideways, batch.look),
        cues,
        turned(target),
    )


def _distance(shape: Array, first: int, second: int) -> Array:
    return np.asarray(np.linalg.norm(shape[:, first] - shape[:, second], axis=1))
