"""Trains the painter of mouths: pairs are rendered once and cut to patches, then a small network learns from those.

A patch is a thirteenth of a crop, and the network a twentieth of what a frame costs, so a core sees ten times as many
samples in an hour as whole frames would be. No judge: it costs exactness, and brings nothing in that time.

A pair is a source and a target that show one person: frames of a clip, or a picture and itself with its lips brought
together. The jobs are the corpus's clips in a fixed random order; chunks of them are files, each written whole, so that
several processes share the work and a killed one goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from liveportrait import weights
from liveportrait.errors import UserError
from liveportrait.face.canonical import MOUTH_SMILE
from liveportrait.metrics.perceptual import PerceptualDistance, PictureFeatures, map_distance
from liveportrait.motion.lifting import MESH_ROWS
from liveportrait.networks import Networks, compact
from liveportrait.networks.compact.generator import (
    CUES,
    LUMA,
    MouthPainter,
    PainterSizes,
    Patch,
    feather,
    inside_lips,
    looking,
    mouth_patch,
    mouth_shape,
    patch_cues,
)
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Motion
from liveportrait.networks.keypoints import MOUTH
from liveportrait.training.checkpoint import load_average, samples_seen
from liveportrait.training.config import (
    DataConfig,
    LossWeights,
    RunConfig,
    Schedule,
    check,
    read_toml,
)
from liveportrait.training.data.augment import (
    Change,
    ColourChange,
    augment_batch,
    random_colour,
    random_similarity,
)
from liveportrait.training.data.batches import generator
from liveportrait.training.data.closing import close_mouth
from liveportrait.training.data.corpora import open_corpora
from liveportrait.training.data.corpus import Clip, Corpus
from liveportrait.training.phase import Terms, network_phase, weighted
from liveportrait.types import Array

NAME = "mouth_painter"
VALIDATE_EVERY = 1000  # steps
MEASURED = 80  # pairs of each kind in a validation
MIDDLE = (..., slice(8, 56), slice(8, 72))  # of a patch: its edges are hardly painted
OUTSIDE, NEAR, INSIDE = 0.5, 1.0, 2.0  # how much places of a patch count
OPEN, SHUT = 0.09, 0.045  # openings, half widths of the patch
BATCH = 32
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
Part = Literal["all", "pairs", "train", "export"]

# Of pairs.
CHUNK = 40  # clips and pictures of one file
REAL, CLOSED = 0, 1  # kinds of pairs: two frames, or a target and its source closed by a warp
TARGETS = 5  # of each source
OPENING_COUNTS = 2.5  # weight of an opening, distances of the eyes, among what a mouth does
LIKE = 0.03  # odds of a target that looks like its source, in the unit of `_differences`
PARTED = 0.1  # opening of a mouth, distances of the eyes, from which on a frame is open
GREY, RECOLOURED = 0.13, 0.4  # shares of the pairs without colour, and in other light
MOVED = 0.6  # share of the pictures whose head is moved
GUESSED, GUESS = (
    0.35,
    0.012,
)  # share of driven lips that are not quite the target's, and how far off, head's scales
JITTER = (0.03, 0.03, 0.05, 0.03)  # of a patch's place: shifts in half widths, log of size, radians
MIDDLE_LIPS = [MESH_ROWS.index(row) for row in (13, 14)]
MOUTH_ENDS = [MESH_ROWS.index(row) for row in (61, 291)]
EYE_ENDS = [MESH_ROWS.index(row) for row in (33, 263)]

# Of batches.
MIRROR = [1, 0, 2, 3, 4, 5]  # of the points of a shape
EVEN = 0.03  # odds of a pair whose mouth keeps its opening, half widths of the patch
KNOWN = 0.7  # share of the pairs whose cues are told
NOISE = 0.08  # on cues: those of another mouth
LATER_GREY = 0.03  # share without colour, on top of those that were rendered so
GAIN, TINT, GAMMA = 0.15, 0.07, 0.25


@dataclass(frozen=True)
class PainterWeights(LossWeights):
    """Weights of the terms."""

    colour: float = 3.0
    gradient: float = 2.0
    perceptual: float = 0.8
    texture: float = 2.5


@dataclass(frozen=True)
class PainterConfig(RunConfig):
    """The training of the painter of mouths."""

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
    """Render the pairs, train on them, and write the weights with the painter in them; all go on where they stopped.

    `share` is the number of this process, and of how many, that render. Part "train" may run while they do: it reads
    new pairs as they come. Raises UserError where no shard matches, and for weights of another architecture.
    """
    config = read_toml(PainterConfig, config_file)
    if output is not None:
        config = dataclasses.replace(config, output=output)
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
    """Train to the end of the schedule, or on from the checkpoint; returns the moving average."""
    torch.manual_seed(config.seed)
    device = torch.device(config.device)
    painter = MouthPainter(config.sizes).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    phase, average = network_phase(NAME, NAME, painter, config, config.schedule)
    distance = PerceptualDistance().to(device)
    meter, kinds = Meter(), groups(held_out, MEASURED)

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
    """How far patches are from their targets: the inside of the mouth counts most, the edge of a patch least."""
    inside = inside_lips(batch.shown_shape)
    near = F.avg_pool2d(F.max_pool2d(inside, 9, 1, 4), 5, 1, 2)
    weight = (OUTSIDE + NEAR * near + INSIDE * inside) * feather(painted.device).clamp(min=0.05)
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
    """Write the given weights with the painter, `weights/` in the run's folder.

    Raises UserError where nothing is trained.
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


def groups(pairs: PatchSet, most: int) -> dict[str, NDArray[np.int64]]:
    """Rows of each kind of pair, evenly thinned to about `most`."""
    kind, opening, own = pairs.about["kind"], pairs.opening, pairs.own_opening
    rows = {
        "opens": np.flatnonzero((kind == REAL) & (opening > OPEN) & (own < SHUT)),
        "closed_by_warp": np.flatnonzero(kind == CLOSED),
        "closes": np.flatnonzero((kind == REAL) & (opening < SHUT) & (own > OPEN)),
    }
    return {name: found[:: max(1, len(found) // most)] for name, found in rows.items() if len(found)}


class Meter:
    """Measures patches against their targets."""

    def __init__(self) -> None:
        self._network = PictureFeatures()

    @torch.no_grad()
    def figures(
        self, painter: MouthPainter | None, pairs: PatchSet, rows: NDArray[np.int64], cues: bool = True
    ) -> dict[str, float]:
        """Of repainted patches, or of the first painting: L1 between the lips, PSNR, perceptual distance, sharpness.

        Sharpness is the Laplacian's energy around the inside, all patches together, as a share of the targets'.
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
    """Patches painted again (B,3,64,80), or as they were."""
    if painter is None:
        return batch.patches[:, 6:9]
    told = batch.cues if cues else batch.cues.new_zeros(len(batch.cues), CUES)
    return painter.repaint(batch.patches, batch.own_shape, batch.shape, batch.look, told)


def laplacian(patches: Tensor) -> Tensor:
    """Of brightness (B,1,H,W), the edges continued by zeros."""
    kernel = patches.new_tensor(LAPLACIAN)[None, None]
    return F.conv2d(patches.mean(1, keepdim=True), kernel, padding=1)


def _twice(patch: Tensor) -> Tensor:
    return F.interpolate(patch, scale_factor=2, mode="bilinear", align_corners=False)


@dataclass
class _Job:
    """Sources of one person, and targets of them."""

    sources: list[Tensor] = field(default_factory=list)  # (1,256,256,3) uint8
    source_motions: list[Motion] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    motions: list[Motion] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)  # the source of each target
    kinds: list[int] = field(default_factory=list)


def render_pairs(
    networks: Networks,
    corpus: Corpus,
    folder: Path,
    seed: int,
    part: int = 0,
    parts: int = 1,
    exact: bool = False,
) -> None:
    """Render the chunks that are not there yet; of several processes, number `part` of `parts` takes its share.

    With `exact` nothing is augmented: for held-out people.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(seed).permutation(len(corpus.lengths))
    for number, start in enumerate(range(0, len(order), CHUNK)):
        path = folder / f"{number:04d}.npz"
        if number % parts != part or path.exists():
            continue
        rng = np.random.default_rng([seed, number])
        records = []
        for clip in order[start : start + CHUNK]:
            for job in _jobs(corpus.take(int(clip)), rng, exact):
                records.append(_cut(networks, job, rng, exact))
        temporary = path.with_name(f".{number:04d}-{os.getpid()}")
        joined = {name: np.concatenate([record[name] for record in records]) for name in records[0]}
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **joined)
        temporary.replace(path)


def _jobs(clip: Clip, rng: np.random.Generator, exact: bool) -> Iterator[_Job]:
    """The job of a clip, or of a picture with parted lips."""
    state = _states(clip)
    opening = state[:, 0] / OPENING_COUNTS
    job = _Job()
    flip, colour = _look(rng, exact)

    def add(frame: int, own: bool = False, meeting: float | None = None) -> tuple[Tensor, Motion] | None:
        picture, landmarks, motion = clip.frame(frame)
        if meeting is not None:
            closed = close_mouth(picture[0].numpy(), landmarks[0].numpy(), motion, meeting)
            if closed is None:
                return None
            picture, motion = torch.from_numpy(closed[0])[None], closed[1]
        moves = own and len(clip) == 1 and rng.random() < MOVED
        head = random_similarity(rng, degrees=10, zoom=0.08, shift=0.06) if moves else None
        return augment_batch(picture, landmarks, motion, [Change(head=head, flip=flip, colour=colour)], 256)

    def pair(source: int, targets: NDArray[np.int64], meeting: float | None = None) -> None:
        made = add(source, own=True, meeting=meeting)
        if made is None:
            return
        job.sources.append(made[0])
        job.source_motions.append(made[1])
        for target in targets:
            shown = add(int(target))
            assert shown is not None
            job.targets.append(shown[0])
            job.motions.append(shown[1])
            job.owners.append(len(job.sources) - 1)
            job.kinds.append(REAL if meeting is None else CLOSED)

    if len(clip) >= 4:
        by_opening = np.argsort(opening)
        for source in (by_opening[0], by_opening[len(clip) // 4], rng.integers(len(clip)), by_opening[-1]):
            odds = (np.abs(state - state[source]).sum(1) + LIKE) ** 1.5
            odds[source] = 0
            count = min(TARGETS, len(clip) - 1)
            pair(int(source), rng.choice(len(clip), count, replace=False, p=odds / odds.sum()))
    opened = rng.permutation(np.flatnonzero(opening > PARTED) if len(clip) > 1 else np.arange(1))
    for source in opened[: 1 if exact else 3]:
        others = rng.permutation(opened)[: min(TARGETS - 1, len(opened) - 1)]
        pair(int(source), np.array([source, *others]), meeting=float(rng.uniform(0.05, 0.45)))
    if job.targets:
        yield job


def _look(rng: np.random.Generator, exact: bool) -> tuple[bool, ColourChange | None]:
    """Whether a job is mirrored, and its colours."""
    flip, chance = bool(rng.random() < 0.5), rng.random()
    if exact:
        return False, None
    if chance < GREY:
        return flip, ColourChange(saturation=0.0)
    return flip, random_colour(rng) if chance < RECOLOURED else None


def _states(clip: Clip) -> Array:
    """What a mouth does in each frame (T,3): opening, width, smile, in units of like weight."""
    points = clip.landmarks
    unit = np.linalg.norm(points[:, EYE_ENDS[0]] - points[:, EYE_ENDS[1]], axis=1)
    opening, width = (
        np.linalg.norm(points[:, a] - points[:, b], axis=1) / np.maximum(unit, 1)
        for a, b in (MIDDLE_LIPS, MOUTH_ENDS)
    )
    smile = clip.blendshapes[:, list(MOUTH_SMILE)].mean(1)
    return np.stack([OPENING_COUNTS * opening, 1.2 * width, 0.5 * smile], 1)


@torch.no_grad()
def _cut(
    networks: Networks, job: _Job, rng: np.random.Generator, exact: bool
) -> dict[str, NDArray[np.generic]]:
    """The patches (N,13,64,80) uint8 of source, warped source, first painting, target and mask, and what goes along."""
    to_tensor = lambda pictures: torch.cat(pictures).permute(0, 3, 1, 2).float() / 255  # noqa: E731
    sources, targets = to_tensor(job.sources), to_tensor(job.targets)
    features = networks.appearance(sources)
    source_pose = pose_of(Motion.cat(job.source_motions))
    true = Motion.cat(job.motions)
    driven = true if exact else _guessed(true, rng)
    pose, true_pose = pose_of(driven), pose_of(true)
    records = []
    for rows in np.array_split(np.arange(len(targets)), -(-len(targets) // 4)):
        owners = [job.owners[row] for row in rows]
        seen = {name: value[owners] for name, value in features.items()}
        own, goal, real = source_pose.rows(owners), pose.rows(rows), true_pose.rows(rows)
        warped = networks.warping(seen, own, goal)
        painting, logits = networks.generator.layers(warped)  # type: ignore[operator]
        mask = logits.sigmoid()
        first = mask * warped["image"] + (1 - mask) * painting
        place = mouth_patch(goal) if exact else _jittered(mouth_patch(goal), rng)
        source_place = mouth_patch(own)
        cut = place.cut(torch.cat([warped["image"], first, targets[rows], mask], 1))
        patches = torch.cat([source_place.cut(sources[owners]), cut], 1)
        true_place = mouth_patch(real)
        records.append(
            {
                "patches": (patches.clamp(0, 1) * 255 + 0.5).byte(),
                "source_shape": mouth_shape(own, source_place),
                "shape": mouth_shape(goal, place),
                "shown_shape": mouth_shape(real, place),
                "looking": torch.cat([looking(own), looking(goal)], 1),
                "cues": patch_cues(true_place.cut(targets[rows]), mouth_shape(real, true_place)),
                "kind": torch.tensor([job.kinds[row] for row in rows]),
            }
        )
    return {name: torch.cat([record[name] for record in records]).numpy() for name in records[0]}


def _guessed(motion: Motion, rng: np.random.Generator) -> Motion:
    """The motion with some of the lips a little off, as those that another face moves are."""
    noise = (
        rng.normal(size=(motion.batch, len(MOUTH), 2)) * GUESS * (rng.random((motion.batch, 1, 1)) < GUESSED)
    )
    expression = motion.expression.clone()
    expression[:, list(MOUTH), :2] += torch.from_numpy(noise).float()
    return motion._replace(expression=expression)


def _jittered(patch: Patch, rng: np.random.Generator) -> Patch:
    """The patch not quite where the keypoints say."""
    count = len(patch.centre)
    right, down, size, angle = torch.from_numpy(
        rng.normal(size=(4, count)).astype(np.float32).clip(-2, 2)
    ).mul(torch.tensor(JITTER)[:, None])
    turn = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    shift = (torch.stack([right, down], 1)[:, None] @ patch.axes)[:, 0]
    return Patch(patch.centre + shift, (turn @ patch.axes) * size.exp()[:, None, None])


class Patches(NamedTuple):
    """A batch of pairs; see `MouthPainter.repaint`."""

    patches: Tensor  # (B,10,64,80) in [0, 1]
    own_shape: Tensor  # (B,6,2)
    shape: Tensor  # (B,6,2) as the network is told
    shown_shape: Tensor  # (B,6,2) as the target has it
    look: Tensor  # (B,4)
    cues: Tensor  # (B,5)
    target: Tensor  # (B,3,64,80)


class PatchSet:
    """All pairs that are rendered so far."""

    def __init__(self, folder: Path) -> None:
        """Raises UserError where there are none."""
        self.folder = folder
        self._chunks: dict[str, dict[str, NDArray[np.generic]]] = {}
        if not self.refresh():
            raise UserError(f"No rendered pairs in {folder}: run the part 'pairs' first.")

    def refresh(self) -> int:
        """Read what has been rendered since; the number of pairs."""
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
        odds = np.abs(opened) + 0.5 * np.abs(widened) + EVEN
        self._odds = odds / odds.sum()
        return len(odds)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def opening(self) -> Array:
        """Distance (N,) of the target's inner lips, half widths of the patch."""
        return _distance(self.about["shown_shape"], 2, 3)

    @property
    def own_opening(self) -> Array:
        """The same of the source."""
        return _distance(self.about["source_shape"], 2, 3)

    def _width(self, name: str) -> Array:
        return _distance(self.about[name], 0, 1)

    def take(self, rows: NDArray[np.integer]) -> Patches:
        """Some of the pairs as they are."""
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
        """Endless augmented batches from number `start` on; pairs whose mouths change are drawn more often.

        Every `refresh_every` batches, what has been rendered meanwhile is added.
        """
        while True:
            if refresh_every and start % refresh_every == 0:
                self.refresh()
            rng = generator(seed, start, 0)
            yield augmented(self.take(rng.choice(len(self), size, p=self._odds)), rng)
            start += 1


def augmented(batch: Patches, rng: np.random.Generator) -> Patches:
    """Half of the pairs mirrored, all in other light, some without colour; cues noisy, or unknown."""
    count = len(batch.target)

    def drawn(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, *shape)).astype(np.float32))

    colours = torch.cat([batch.patches[:, :9], batch.target], 1).unflatten(1, (4, 3))
    gamma, gain = drawn(-GAMMA, GAMMA, 1, 1, 1, 1).exp(), 1 + drawn(-GAIN, GAIN, 1, 1, 1, 1)
    gain = gain * (1 + drawn(-TINT, TINT, 1, 3, 1, 1))
    colours = (colours.clamp(1e-3, 1) ** gamma * gain).clamp(0, 1)
    luma = (colours * colours.new_tensor(LUMA).view(1, 1, 3, 1, 1)).sum(2, keepdim=True)
    colours = torch.where(drawn(0, 1, 1, 1, 1, 1) < LATER_GREY, luma.expand_as(colours), colours)
    flat = colours.flatten(1, 2)
    patches, target = torch.cat([flat[:, :9], batch.patches[:, 9:]], 1), flat[:, 9:]
    noise = torch.from_numpy(rng.normal(size=(count, 4)).astype(np.float32)) * NOISE
    cues = torch.cat([batch.cues[:, :4] + noise, batch.cues[:, 4:]], 1) * (drawn(0, 1, 1) < KNOWN)
    flip = drawn(0, 1) < 0.5
    across, sideways = torch.tensor([-1.0, 1.0]), torch.tensor([-1.0, 1.0, -1.0, 1.0])

    def turned(picture: Tensor) -> Tensor:
        return torch.where(flip[:, None, None, None], picture.flip(-1), picture)

    def mirrored(shape: Tensor) -> Tensor:
        return torch.where(flip[:, None, None], shape[:, MIRROR] * across, shape)

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
