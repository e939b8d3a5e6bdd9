"""Trains the painter of mouths: pairs are rendered once and cut to patches, from which a small network learns.

A patch is a thirteenth of a crop, and the network costs a twentieth of a frame, so in an hour one core trains on ten
times as many samples as with entire frames. There is no discriminator: it makes the result less exact, and in that
time it improves nothing.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from liveportrait import weights
from liveportrait.errors import UserError
from liveportrait.metrics.perceptual import PerceptualDistance, PictureFeatures, map_distance
from liveportrait.networks import Networks, compact
from liveportrait.networks.compact.painter import (
    CUES,
    MouthPainter,
    PainterSizes,
    feather,
    inside_lips,
)
from liveportrait.training.checkpoint import load_average, samples_seen
from liveportrait.training.config import (
    DataConfig,
    LossWeights,
    RunConfig,
    Schedule,
    check,
    read_run,
)
from liveportrait.training.data.corpora import open_corpora
from liveportrait.training.painter.pairs import render_pairs
from liveportrait.training.painter.patches import CLOSED, REAL, Patches, PatchSet
from liveportrait.training.phase import Terms, network_phase, weighted

NAME = "mouth_painter"
VALIDATE_EVERY = 1000  # steps
VALIDATION_PAIRS = 80  # of each kind
MIDDLE = (..., slice(8, 56), slice(8, 72))  # of a patch, whose edges are hardly painted
# Weights of a patch's pixels: everywhere, and in addition near and inside the mouth.
EVERYWHERE, NEAR, INSIDE = 0.5, 1.0, 2.0
OPEN, SHUT = 0.09, 0.045  # openings, in half widths of the patch
BATCH = 32  # of patches to measure
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
Part = Literal["all", "pairs", "train", "export"]


@dataclass(frozen=True)
class PainterWeights(LossWeights):
    """Weights of the terms."""

    colour: float = 3.0
    gradient: float = 2.0
    perceptual: float = 0.8
    texture: float = 2.5


@dataclass(frozen=True)
class PainterConfig(RunConfig):
    """Settings for the training of the painter of mouths."""

    output: str = "runs/painter"
    average_decay: float = 0.999
    schedule: Schedule = field(
        default_factory=lambda: Schedule(150_000, 6, 1e-3, final_ratio=0.05, weight_decay=0.01)
    )
    sizes: PainterSizes = field(default_factory=PainterSizes)
    weights: PainterWeights = field(default_factory=PainterWeights)


def run(
    config_file: Path,
    weights_name: str,
    output: str | None = None,
    part: Part = "all",
    share: tuple[int, int] = (0, 1),
) -> Path:
    """Render the pairs, train on them, and write the weights with the painter in them; each continues where it stopped.

    `share` is the number of this process and the count of all processes that render. Part "train" may run meanwhile:
    it picks up new pairs. Raises `UserError` if no shard matches, and for weights of another architecture.
    """
    config = read_run(PainterConfig, config_file, output)
    torch.set_num_threads(config.threads)
    networks, folder = weights.load(weights_name), Path(config.output)
    check("weights", weights_name, networks.variant.architecture == "compact", "choose compact ones")
    if part in ("all", "pairs"):
        render(networks, config.data, config_file.parent, folder, config.seed, share)
    if part == "pairs":
        return folder
    if part != "export":
        train(config, PatchSet(folder / "pairs"), PatchSet(folder / "pairs-held-out"))
    return export(config, weights_name, networks)


def render(
    networks: Networks, data: DataConfig, base: Path, folder: Path, seed: int, share: tuple[int, int]
) -> None:
    """Render this process's share of the pairs into `folder`."""
    for module in networks.modules().values():
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    corpora = open_corpora(data, base, folder / "corpus", seed)
    render_pairs(networks, corpora.held_out, folder / "pairs-held-out", seed, *share, exact=True)
    render_pairs(networks, corpora.train, folder / "pairs", seed, *share)


def train(config: PainterConfig, pairs: PatchSet, held_out: PatchSet) -> MouthPainter:
    """Train to the end of the schedule, from the checkpoint if there is one; returns the moving average."""
    torch.manual_seed(config.seed)
    device = torch.device(config.device)
    painter = MouthPainter(config.sizes).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    phase, average = network_phase(NAME, NAME, painter, config, config.schedule)
    distance = PerceptualDistance().to(device)
    meter, kinds = Meter(), groups(held_out, VALIDATION_PAIRS)

    def terms(batch: Patches) -> Terms:
        moved = Patches(*(part.to(device) for part in batch))
        return painting_terms(repainted(painter, moved), moved, distance)

    def validate() -> dict[str, float]:
        average.to("cpu")
        found = {
            f"{kind}/{name}": value
            for kind, rows in kinds.items()
            for name, value in meter.figures(average, held_out, rows).items()
        }
        average.to(device)
        return found

    batches: Iterable[Patches] = pairs.batches(
        config.seed, phase.rank_slice.size, phase.state.step, VALIDATE_EVERY
    )
    phase.run(iter(batches), weighted(NAME, terms, config.weights), validate, VALIDATE_EVERY)
    return average


def painting_terms(painted: Tensor, batch: Patches, distance: torch.nn.Module) -> Terms:
    """Differences of patches from their targets; the inside of the mouth counts most, the edge of a patch least."""
    inside = inside_lips(batch.shown_shape)
    near = F.avg_pool2d(F.max_pool2d(inside, 9, 1, 4), 5, 1, 2)
    weight = (EVERYWHERE + NEAR * near + INSIDE * inside) * feather(painted.device).clamp(min=0.05)
    weight = weight / weight.mean()
    gap = painted - batch.target
    sideways = (gap[..., 1:] - gap[..., :-1]).abs() * weight[..., 1:]
    downwards = (gap[..., 1:, :] - gap[..., :-1, :]).abs() * weight[..., 1:, :]
    found, wanted = (F.avg_pool2d(laplacian(patch).abs(), 8) for patch in (painted, batch.target))
    return {
        "colour": (gap.abs() * weight).mean(),
        "gradient": sideways.mean() + downwards.mean(),
        "perceptual": distance(painted[MIDDLE], batch.target[MIDDLE]),
        "texture": ((found - wanted).abs() * F.avg_pool2d(weight, 8)).mean(),
    }


def export(config: PainterConfig, weights_name: str, networks: Networks) -> Path:
    """Write the given weights with the painter added to `weights/` in the run's folder.

    Raises `UserError` if nothing is trained yet.
    """
    folder = Path(config.output)
    checkpoint = folder / f"{NAME}.safetensors"
    if not checkpoint.exists():
        raise UserError(f"No checkpoint at {checkpoint}: run the part 'train' first.")
    painter = load_average(checkpoint, NAME, MouthPainter(config.sizes))
    networks.mouth_painter = painter.eval()
    sizes = networks.variant.sizes
    assert isinstance(sizes, compact.Sizes)
    sizes = dataclasses.replace(sizes, painter=config.sizes)
    networks.variant = dataclasses.replace(networks.variant, sizes=sizes)
    before = weights.describe(weights_name).metadata
    about = {NAME: {"config": dataclasses.asdict(config), "samples": samples_seen(checkpoint)}}
    made = weights.Metadata(before.origin, before.licence, {**before.training, **about})
    weights.save(networks, folder / "weights", made)
    return folder / "weights"


def groups(pairs: PatchSet, count: int) -> dict[str, NDArray[np.int64]]:
    """Rows of each kind of pair, evenly thinned to about `count`."""
    kind, opening, own = pairs.about["kind"], pairs.opening, pairs.own_opening
    rows = {
        "opens": np.flatnonzero((kind == REAL) & (opening > OPEN) & (own < SHUT)),
        "closed_by_warp": np.flatnonzero(kind == CLOSED),
        "closes": np.flatnonzero((kind == REAL) & (opening < SHUT) & (own > OPEN)),
    }
    return {name: found[:: max(1, len(found) // count)] for name, found in rows.items() if len(found)}


class Meter:
    """Measures patches against their targets."""

    def __init__(self) -> None:
        self._network = PictureFeatures()

    @torch.no_grad()
    def figures(
        self, painter: MouthPainter | None, pairs: PatchSet, rows: NDArray[np.int64], cues: bool = True
    ) -> dict[str, float]:
        """L1 between the lips, PSNR, perceptual distance and sharpness of repainted patches, or of the first painting.

        Sharpness is the Laplacian's energy in and around the mouth, summed over all patches, over the targets'.
        """
        sums = dict.fromkeys(("inside_error", "inside", "psnr", "perceptual", "detail", "target_detail"), 0.0)
        for start in range(0, len(rows), BATCH):
            batch = pairs.take(rows[start : start + BATCH])
            shown = repainted(painter, batch, cues).clamp(0, 1)
            inside = inside_lips(batch.shown_shape)
            gap = shown - batch.target
            sums["inside_error"] += float((gap.abs().mean(1, keepdim=True) * inside).sum())
            sums["inside"] += float(inside.sum())
            sums["psnr"] += float((-10 * gap.square().mean((1, 2, 3)).clamp(min=1e-6).log10()).sum())
            maps, target = (self._network.maps(_twice(patch)) for patch in (shown, batch.target))
            sums["perceptual"] += float(map_distance(maps, target).sum())
            region = (F.max_pool2d(inside, 9, 1, 4) > 0.5).float()
            for name, patch in (("detail", shown), ("target_detail", batch.target)):
                sums[name] += float((laplacian(patch).square() * region).sum())
        return {
            "inside": sums["inside_error"] / max(sums["inside"], 1),
            "psnr": sums["psnr"] / len(rows),
            "perceptual": sums["perceptual"] / len(rows),
            "sharpness": sums["detail"] / max(sums["target_detail"], 1e-6),
        }


def repainted(painter: MouthPainter | None, batch: Patches, cues: bool = True) -> Tensor:
    """Repainted patches (B,3,64,80); without a painter, the first painting."""
    if painter is None:
        return batch.patches[:, 6:9]
    given = batch.cues if cues else batch.cues.new_zeros(len(batch.cues), CUES)
    return painter.repaint(batch.patches, batch.own_shape, batch.shape, batch.look, given)


def laplacian(patches: Tensor) -> Tensor:
    """Laplacian (B,1,H,W) of the mean channel, with zero padding."""
    kernel = patches.new_tensor(LAPLACIAN)[None, None]
    return F.conv2d(patches.mean(1, keepdim=True), kernel, padding=1)


def _twice(patch: Tensor) -> Tensor:
    return F.interpolate(patch, scale_factor=2, mode="bilinear", align_corners=False)
