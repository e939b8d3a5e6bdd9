"""Trains E, which predicts how a face's keypoints follow its blendshape scores; it takes minutes on one core.

Examples are pairs of faces of one person. Given the first face, its scores and the scores of the second, E learns how
the keypoints moved. Training needs labels only; no picture is decoded.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from liveportrait import weights
from liveportrait.motion.lifting import KEYPOINTS
from liveportrait.networks import keypoints as k
from liveportrait.networks.expression import ExpressionNetwork, ExpressionSizes
from liveportrait.training.checkpoint import samples_seen
from liveportrait.training.config import RunConfig, Schedule, check_shares, read_run
from liveportrait.training.data.corpora import matching_shards
from liveportrait.training.expression_faces import LabelledFaces, keypoint_change, read_faces
from liveportrait.training.phase import Objective, network_phase

NAME = "expression"
VALIDATE_EVERY = 500  # steps
VALIDATION_PAIRS = 4000
SMOOTH_L1_BETA = 0.03  # errors of a keypoint beyond it count linearly, below it by their square
# Scores say little about how the outline of the face moves.
KEYPOINT_WEIGHTS = k.per_keypoint(
    {k.EYES: 1.0, k.BROWS: 1.0, k.MOUTH: 1.0, (k.NOSE_TIP,): 1.0, (k.CHIN, *k.JAW, k.FOREHEAD): 0.1}
)


@dataclass(frozen=True)
class ExpressionConfig(RunConfig):
    """Settings for the training of E."""

    output: str = "runs/expression"
    schedule: Schedule = field(default_factory=lambda: Schedule(384_000, 256, 2e-3, weight_decay=0.1))
    sizes: ExpressionSizes = field(default_factory=ExpressionSizes)
    noise: float = 0.5  # added to a face's components (of unit variance), because a tracker's are not exact

    def __post_init__(self) -> None:
        """Raise UserError for impossible values."""
        super().__post_init__()
        check_shares(self, "noise")


def run(config_file: Path, weights_name: str, output: str | None = None) -> Path:
    """Train to the end of the schedule, from the checkpoint if there is one, and write the weights with E in them.

    Raises `UserError` if no shard matches.
    """
    config = read_run(ExpressionConfig, config_file, output)
    torch.set_num_threads(config.threads)
    shards = matching_shards(config.data, config_file.parent)
    one_in = config.data.hold_out_one_in
    faces, held_out = (read_faces(shards, one_in, apart) for apart in (False, True))
    network = train(config, faces, held_out)
    print(
        ", ".join(
            f"{name} {value:.3f}" for name, value in explained_variance(network, faces, held_out).items()
        )
    )
    return export(config, weights_name, network)


def new_network(sizes: ExpressionSizes, faces: LabelledFaces) -> ExpressionNetwork:
    """E before its first step: it has the principal components of the faces, and moves nothing yet."""
    network = ExpressionNetwork(sizes)
    flat = faces.landmarks.reshape(len(faces.landmarks), -1).astype(np.float64)
    mean = flat.mean(0)
    variance, vectors = np.linalg.eigh(np.cov(flat - mean, rowvar=False))
    largest = np.argsort(variance)[::-1][: sizes.components]
    whitened = vectors[:, largest] / np.sqrt(variance[largest])
    network.mean.copy_(torch.from_numpy(mean.reshape(-1, 2)))
    network.basis.copy_(torch.from_numpy(whitened))
    return network


def train(config: ExpressionConfig, faces: LabelledFaces, held_out: LabelledFaces) -> ExpressionNetwork:
    """Train to the end of the schedule, from the checkpoint if there is one; returns the moving average."""
    torch.manual_seed(config.seed)
    device = torch.device(config.device)
    network = new_network(config.sizes, faces).to(device)
    schedule = config.schedule
    phase, average = network_phase(NAME, NAME, network, config, schedule)
    heavy = torch.tensor(KEYPOINT_WEIGHTS, device=device)[:, None]

    def losses(pair: tuple[Tensor, ...]) -> list[Objective]:
        first, own, second, wanted = (part.to(device) for part in pair)
        code = network.code(first)
        found = network.moved(code + config.noise * torch.randn_like(code), own, wanted)
        error = F.smooth_l1_loss(found, keypoint_change(first, second), beta=SMOOTH_L1_BETA, reduction="none")
        loss = 100 * (heavy * error).mean()
        return [Objective(NAME, loss, {"error": error.mean()})]

    def validate() -> dict[str, float]:
        return explained_variance(average, faces, held_out)

    size = phase.rank_slice.size
    phase.run(faces.pairs(config.seed, size, phase.state.step), losses, validate, VALIDATE_EVERY)
    return average


@torch.no_grad()
def explained_variance(
    network: ExpressionNetwork, faces: LabelledFaces, held_out: LabelledFaces
) -> dict[str, float]:
    """Share of the variance of held-out people's keypoints that E and a ridge regression explain.

    Means over all keypoints and over those of the mouth, on 4,000 pairs. The regression is fitted to the training
    faces.
    """
    first, own, second, wanted = next(held_out.pairs(0, VALIDATION_PAIRS))
    device = network.basis.device
    found = network(first.to(device), own.to(device), wanted.to(device)).cpu()
    linear = ((wanted - own) @ torch.from_numpy(faces.ridge())).unflatten(1, (-1, 2))[:, list(KEYPOINTS)]
    true = keypoint_change(first, second)
    figures = {}
    for name, guess in (("E", found), ("ridge", linear)):
        share = 1 - (guess - true).square().mean((0, 2)) / true.square().mean((0, 2))
        figures[name] = float(share.mean())
        figures[f"{name}_mouth"] = float(share[list(k.MOUTH)].mean())
    return figures


def export(config: ExpressionConfig, weights_name: str, network: ExpressionNetwork) -> Path:
    """Write the given weights with E added to `weights/` in the run's folder."""
    folder = Path(config.output)
    networks, before = weights.load(weights_name), weights.describe(weights_name).metadata
    networks.expression = network.cpu()
    networks.variant = dataclasses.replace(networks.variant, expression=config.sizes)
    seen = samples_seen(folder / f"{NAME}.safetensors")
    about = {NAME: {"config": dataclasses.asdict(config), "pairs": seen}}
    made = weights.Metadata(before.origin, before.licence, {**before.training, **about})
    weights.save(networks, folder / "weights", made)
    return folder / "weights"
