"""The networks alone: seconds a frame of the reference and of the optimised networks, and the ratio of the two.

    python benchmarks/networks.py                                       # both variants, batch 1
    python benchmarks/networks.py --variants compact --batches 1 4 --repeats 5
    python benchmarks/networks.py --check benchmarks/figures/networks.jsonl    # exit 1 if a ratio fell
    python benchmarks/networks.py --write benchmarks/figures/networks.jsonl

A frame is M of the driving picture, W and G; F runs once a source and is left out. The reference is this project's own
plain path in the layout and order of the published program: float32, contiguous channels-first tensors, one frame at
a time, every layer by itself. Weights are random: what networks cost does not depend on them, and the largest
difference between the ways' pictures is measured as well. All ways run in one process and take turns; each case prints
a JSON line, and a table ends the run. Operations are multiplications with an addition, in convolutions and products.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from measuring import Figure, clock_of, fastest, machine, read, regressions, table, write
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from liveportrait.engine.optimise import optimised
from liveportrait.networks import BASE, COMPACT, Networks, build
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Motion, Pose

VARIANTS = {"base": BASE, "compact": COMPACT}
WAYS: dict[str, Callable[[Networks], Networks]] = {
    "reference": lambda networks: networks,
    "optimised": optimised,
}
COLUMNS = [
    "case",
    "precision",
    "gmac",
    "seconds_per_frame",
    "ratio",
    "max_error",
    "psnr_db",
    "threads",
    "load",
]


def random_networks(name: str, device: torch.device) -> Networks:
    """Untrained networks whose biases, scales and statistics are random too, so that an error would show."""
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
    return networks


def random_pose(count: int, device: torch.device) -> Pose:
    """Poses as faces have them: keypoints within the crop, rotations by some degrees."""
    rotation = torch.linalg.qr(torch.eye(3) + 0.1 * torch.randn(count, 3, 3)).Q
    shift, scale = 0.05 * torch.randn(count, 3), 1 + 0.05 * torch.rand(count, 1)
    motion = Motion(rotation, shift, scale, 0.4 * torch.randn(1, 21, 3), 0.02 * torch.randn(count, 21, 3))
    return Pose(
        *(
            part.to(device)
            for part in pose_of(Motion(*(part.expand(count, *part.shape[1:]) for part in motion)))
        )
    )


@dataclass(frozen=True)
class Case:
    """One way of running one variant on frames of one batch size."""

    variant: str
    way: str
    networks: Networks
    pictures: Tensor  # (B,3,S,S), driving
    features: dict[str, Tensor]
    source: Pose
    driving: Pose

    @property
    def name(self) -> str:
        return f"{self.variant} {self.way} x{len(self.pictures)}"

    @torch.inference_mode()
    def frame(self) -> Tensor:
        """M, W and G of the batch: pictures (B,3,S,S)."""
        self.networks.motion(self.pictures)
        return self.networks.generator(self.networks.warping(self.features, self.source, self.driving))


def cases_of(variant: str, batches: list[int], device: torch.device) -> list[Case]:
    """The reference with one frame, then every other way with every batch size; all see the same first frame."""
    networks = random_networks(variant, device)
    most, size = max(batches), networks.variant.input_size
    pictures = torch.rand(most, 3, size, size, device=device)
    source, driving = random_pose(1, device), random_pose(most, device)
    cases = []
    for way, prepare in WAYS.items():
        prepared = prepare(networks)
        with torch.inference_mode():
            features = prepared.appearance(pictures[:1])
        for batch in [1] if way == "reference" else batches:
            cases.append(
                Case(
                    variant,
                    way,
                    prepared,
                    pictures[:batch],
                    {name: value.expand(batch, *value.shape[1:]) for name, value in features.items()},
                    Pose(*(part.expand(batch, *part.shape[1:]) for part in source)),
                    Pose(*(part[:batch] for part in driving)),
                )
            )
    return cases


def measure(cases: list[Case], device: torch.device, repeats: int) -> list[Figure]:
    """A figure for each case; `ratio` says how many times faster a frame is than the reference's."""
    pictures, operations = [], []
    for case in cases:  # also warms each up
        with FlopCounterMode(display=False) as counter:
            pictures.append(case.frame()[:1].float().cpu())
        operations.append(counter.get_total_flops() / 2e9 / len(case.pictures))
    clock_name, clock = clock_of(device)
    seconds = fastest([case.frame for case in cases], clock, repeats)
    seconds = [spent / len(case.pictures) for spent, case in zip(seconds, cases, strict=True)]
    figures = []
    for case, spent, picture, gmac in zip(cases, seconds, pictures, operations, strict=True):
        error = (picture - pictures[0]).abs()
        squared = error.square().mean()
        figure: Figure = {
            "case": case.name,
            "scope": "M + W + G, a frame",
            "precision": "fp32",
            "gmac": round(gmac, 2),
            "seconds_per_frame": float(f"{spent:.4g}"),
            "clock": clock_name,
            "repeats": repeats,
            "ratio": round(seconds[0] / spent, 3),
            "max_error": float(f"{error.max():.2g}"),
            "psnr_db": round(-10 * squared.log10().item(), 1) if squared > 0 else None,
        }
        figures.append(figure | machine(device))
    return figures


def main() -> int:
    """Run the cases; 1 if a ratio fell below a committed one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", nargs="+", choices=sorted(VARIANTS), default=sorted(VARIANTS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1])
    parser.add_argument("--repeats", type=int, default=3, help="the fastest of so many counts")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare with these figures")
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    figures = []
    for variant in options.variants:
        for figure in measure(cases_of(variant, options.batches, device), device, options.repeats):
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
