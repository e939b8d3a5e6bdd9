"""Trains the network that finds animals' faces: new heads on a frozen ImageNet trunk.

A few hundred crops are too few to train a trunk, and ImageNet's knows 120 breeds of dogs and five of cats. Its
features of every view are computed once and cached, which makes epochs cheap. One core is enough.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from liveportrait.data.shards import is_held_out, read_entries
from liveportrait.errors import UserError
from liveportrait.media.files import output_file
from liveportrait.metrics.perceptual import WEIGHTS as TRUNK
from liveportrait.networks.animal import AnimalNetwork, AnimalReading, face_size
from liveportrait.networks.geometry import pixel_grid
from liveportrait.training.animals.views import Image, Labelled, draw_view

LANDMARK_FILE = Path(__file__).with_name("landmarks.json")
HELD_OUT_ONE_IN = 6
BACKGROUNDS = 900  # pictures kept in memory
NEAR_CELLS = 1.5  # radius around a face's centre within which cells predict its landmarks
HEAT_SPREAD = 0.09  # standard deviation of a landmark's target heatmap, in face sizes
MIN_HEATMAP_SIZE = 0.16  # smaller faces get no heatmaps
LOG_EVERY = 50


@dataclass(frozen=True)
class DetectorOptions:
    """Length and learning rate of the training."""

    views: int = 3000  # pictures to generate
    epochs: int = 12  # passes over them
    batch: int = 32
    learning_rate: float = 2e-3  # the peak; it decays to zero along a cosine
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Views:
    """The trunk's features of N views, and the targets of the heads."""

    fine: Tensor  # (N,40,S/8,S/8) float16
    coarse: Tensor  # (N,112,S/16,S/16) float16
    points: Tensor  # (N,9,2) in [-1, 1]
    is_there: Tensor  # (N,) bool


def landmarks_of_crops(path: Path = LANDMARK_FILE) -> dict[str, list[list[float]]]:
    """Hand-made landmarks (9,2) by crop key, in px of a 256 px crop."""
    return {key: np.reshape(row, (-1, 2)).tolist() for key, row in json.loads(path.read_text()).items()}


def read_crops(shards: Sequence[Path], held_out: bool) -> list[Labelled]:
    """The labelled crops of a split. Raises `UserError` if there are none."""
    known = landmarks_of_crops()
    crops = [
        Labelled(entry.frames()[0], np.array(known[entry.key], np.float32))
        for shard in shards
        for entry in read_entries(shard)
        if entry.key in known and is_held_out(entry.key, HELD_OUT_ONE_IN) == held_out
    ]
    if not crops:
        named = ", ".join(str(shard) for shard in shards)
        raise UserError(
            f"no picture in {named} has landmarks in {LANDMARK_FILE.name}: name the animals' shards"
        )
    return crops


def read_backgrounds(shards: Sequence[Path], seed: int, held_out: bool = False) -> list[Image]:
    """The pictures of a split that show no animal. Raises `UserError` if there are none."""
    entries = [
        entry
        for shard in shards
        for entry in read_entries(shard)
        if not entry.is_video
        and entry.domain != "animal"
        and is_held_out(entry.identity, HELD_OUT_ONE_IN) == held_out
    ]
    if not entries:
        raise UserError("the background shards have no pictures other than of animals: name different ones")
    order = np.random.default_rng(seed).permutation(len(entries))[:BACKGROUNDS]
    return [entries[row].frames()[0] for row in order]


def new_network() -> AnimalNetwork:
    """New heads on a trunk with ImageNet weights."""
    network = AnimalNetwork().eval()
    renamed = {
        f"blocks.{name[1:]}" if name.startswith("b") else name: value.float()
        for name, value in load_file(TRUNK).items()
    }
    own = network.state_dict()
    network.load_state_dict({name: renamed.get(name, value) for name, value in own.items()})
    for part in (network.stem, network.blocks):
        part.requires_grad_(False)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def precompute_views(
    network: AnimalNetwork, crops: Sequence[Labelled], backgrounds: Sequence[Image], count: int, seed: int
) -> Views:
    """Draw views and cache the trunk's features of them."""
    rng = np.random.default_rng(seed)
    fine, coarse, points, there = [], [], [], []
    started = time.monotonic()
    for first in range(0, count, 16):
        views = [draw_view(crops, backgrounds, rng) for _ in range(min(16, count - first))]
        pictures = np.stack([view.picture for view in views])
        features = network.features(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255)
        fine.append(features[0].half())
        coarse.append(features[1].half())
        points.append(torch.from_numpy(np.stack([view.points for view in views])).float())
        there.append(torch.tensor([view.is_there for view in views]))
        if first // 16 % 20 == 0:
            print(f"view {first} of {count}, {time.monotonic() - started:.0f} s", flush=True)
    return Views(torch.cat(fine), torch.cat(coarse), torch.cat(points), torch.cat(there))


def losses(reading: AnimalReading, points: Tensor, is_there: Tensor) -> dict[str, Tensor]:
    """The loss terms, for points (B,9,2) of the views with a face, `is_there` (B,)."""
    height, width = reading.centre.shape[1:]
    cells = pixel_grid(height, width, points.device)
    size = face_size(points).clamp(min=0.02)
    apart = (cells[None] - points.mean(1)[:, None, None]).square().sum(-1).sqrt() * (height / 2)  # in cells
    wanted = (-(apart.square()) / 2).exp() * is_there[:, None, None]
    positives = is_there.sum().clamp(min=1)
    # The penalty-reduced focal loss of CenterNet (Zhou et al. 2019, eq. 1), with the centre's cell counted as 1.
    found = reading.centre.sigmoid().clamp(1e-4, 1 - 1e-4)
    is_middle = apart <= apart.flatten(1).min(1).values[:, None, None]
    is_middle = is_middle & is_there[:, None, None]
    hit = (1 - found).square() * found.log() * is_middle
    miss = (1 - wanted).pow(4) * found.square() * (1 - found).log() * ~is_middle
    centre = -(hit + miss).sum() / positives
    near = (apart < NEAR_CELLS) & is_there[:, None, None]
    batch = near.nonzero()[:, 0]
    offset = (reading.points[near] - points[batch]) / size[batch, None, None]
    scale = reading.size[near] - size[batch].log()
    large = is_there & (size > MIN_HEATMAP_SIZE)
    place, spread = heat_losses(reading.heat[large], cells.reshape(-1, 2), points[large], size[large])
    return {
        "centre": centre,
        "points": F.smooth_l1_loss(offset, torch.zeros_like(offset), beta=0.1),
        "size": F.smooth_l1_loss(scale, torch.zeros_like(scale), beta=0.1),
        "place": place,
        "spread": spread,
    }


def heat_losses(heat: Tensor, cells: Tensor, points: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of the heatmaps' means from the landmarks, in face sizes; cross-entropy with narrow Gaussians."""
    if not len(heat):
        return heat.sum(), heat.sum()
    away = ((heat.softmax(-1) @ cells - points) / size[:, None, None]).abs().mean()
    reach = (HEAT_SPREAD * size).clamp(min=0.04)[:, None, None]
    target = (-(cells - points[:, :, None]).square().sum(-1) / (2 * reach**2)).softmax(-1)
    return away, -(target * heat.log_softmax(-1)).sum(-1).mean()


WEIGHTS = {"centre": 1.0, "points": 2.0, "size": 0.5, "place": 2.0, "spread": 0.3}


def fit(network: AnimalNetwork, views: Views, options: DetectorOptions) -> None:
    """Train the heads."""
    torch.manual_seed(options.seed)
    network.train()
    heads = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(heads, options.learning_rate, weight_decay=1e-3)
    steps = max(1, options.epochs * len(views.points) // options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, steps, pct_start=0.1)
    order = torch.cat([torch.randperm(len(views.points)) for _ in range(options.epochs)])
    started, smooth = time.monotonic(), dict.fromkeys(WEIGHTS, 0.0)  # moving averages of the terms
    for step in range(steps):
        rows = order[step * options.batch : (step + 1) * options.batch]
        reading = network.read(views.fine[rows].float(), views.coarse[rows].float())
        terms = losses(reading, views.points[rows], views.is_there[rows])
        optimizer.zero_grad(set_to_none=True)
        sum((WEIGHTS[name] * value for name, value in terms.items()), torch.zeros(())).backward()
        torch.nn.utils.clip_grad_norm_(heads, 5.0)
        optimizer.step()
        schedule.step()
        smooth = {name: 0.98 * smooth[name] + 0.02 * float(value.detach()) for name, value in terms.items()}
        if (step + 1) % LOG_EVERY == 0:
            known = 1 - 0.98 ** (step + 1)
            line = ", ".join(f"{name} {value / known:.3f}" for name, value in smooth.items())
            print(f"step {step + 1} of {steps}, {time.monotonic() - started:.0f} s: {line}", flush=True)
    network.eval()


def train(
    shards: Sequence[Path], backgrounds: Sequence[Path], output: Path, options: DetectorOptions
) -> AnimalNetwork:
    """Train a detector and write it as float16 safetensors. Raises `UserError` if data is missing."""
    if options.views < 1 or options.epochs < 1 or options.batch < 1 or not options.learning_rate > 0:
        raise UserError("views, epochs, batch and learning rate must be greater than 0")
    crops = read_crops(shards, held_out=False)
    pictures = read_backgrounds(backgrounds, options.seed)
    torch.manual_seed(options.seed)
    network = new_network()
    fit(network, precompute_views(network, crops, pictures, options.views, options.seed), options)
    stored = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    about = {"options": json.dumps(asdict(options)), "crops": str(len(crops))}
    with output_file(output) as partial:
        save_file(stored, partial, about)
    return network
