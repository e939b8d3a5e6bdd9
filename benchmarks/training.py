"""Joint training steps at full size: samples per second, peak memory, floating-point operations per sample.

    python benchmarks/training.py --variant base --batch 13 --steps 20 --device cuda     # one GPU of the paper's eight
    python benchmarks/training.py --variant base --batch 1 --steps 1                     # minutes on a CPU core
    python benchmarks/training.py --variant compact --batch 4 --steps 5

A step is that of configs/base.toml or configs/compact-joint.toml with all its losses, discriminators included, on
random pictures, because the cost of the networks does not depend on what they see. One JSON line is printed. Operations
count a multiplication and an addition as two, in convolutions and matrix products, forward and backward. On a busy
machine `cpu_seconds_per_sample` (one thread) is more meaningful than wall time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from liveportrait.face.canonical import canonical_face
from liveportrait.motion.lifting import AXES, MESH_ROWS, canonical_points
from liveportrait.networks import BASE, COMPACT, build
from liveportrait.networks.interface import Motion
from liveportrait.training.losses.perceptual import chip_map
from liveportrait.training.phase import Phase, compile_networks
from liveportrait.training.stage_one.config import JointSettings, StageOneConfig, load_config
from liveportrait.training.stage_one.joint import JointTrainer
from liveportrait.training.stage_one.joint_model import Pair

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = {"base": "base.toml", "compact": "compact-joint.toml"}


def settings_of(variant: str, batch: int) -> JointSettings:
    """The shipped recipe with another batch size, and discriminators from the first step."""
    settings = load_config(CONFIGS / FILES[variant]).joint
    assert settings is not None
    schedule = dataclasses.replace(settings.schedule, batch=batch)
    return dataclasses.replace(settings, schedule=schedule, adversarial_from=0)


def mean_face_landmarks() -> np.ndarray:
    """The 111 landmarks (1,111,2), px, of the frontal mean face."""
    mesh = canonical_face().vertices @ AXES
    irises = {468: mesh[[159, 145]].mean(0), 473: mesh[[386, 374]].mean(0)}
    points = np.stack([irises.get(row, mesh[min(row, len(mesh) - 1)]) for row in MESH_ROWS])
    return (points[None, :, :2] * 8 + 128).astype(np.float32)


def random_pair(batch: int, side: int, device: torch.device) -> Pair:
    """Random pictures, labelled as a centred mean face."""
    keypoints = torch.from_numpy(canonical_points()[0]).expand(batch, -1, -1)
    label = Motion(
        torch.eye(3).expand(batch, 3, 3), torch.zeros(batch, 3), torch.full((batch, 1), 0.5),
        keypoints, torch.zeros(batch, 21, 3),
    )  # fmt: skip
    label = label.to(device)
    pictures: list[Tensor] = [torch.rand(batch, 3, side, side, device=device) for _ in range(2)]
    return Pair(*pictures, source_label=label, driving_label=label)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Times the steps after the first, which counts operations; with one step, times that one."""
    device, settings = torch.device(options.device), settings_of(options.variant, options.batch)
    variant = BASE if options.variant == "base" else COMPACT
    torch.manual_seed(0)
    trainer = JointTrainer(
        build(variant), settings, device, bf16=options.bf16, chips=chip_map(mean_face_landmarks())
    )
    with tempfile.TemporaryDirectory() as folder:
        config = StageOneConfig(output=folder, device=options.device, checkpoint_seconds=1e9)
        phase = Phase("benchmark", config, settings.schedule, trainer.state)
        pair = random_pair(options.batch, variant.input_size, device)
        started = time.perf_counter(), time.process_time()
        with FlopCounterMode(display=False) as counter:
            phase.turn(pair, trainer.losses)
        _wait(device)
        elapsed = time.perf_counter() - started[0], time.process_time() - started[1]
        steps = 1
        if options.steps > 1:
            steps = options.steps
            if options.compile:
                compile_networks(phase.state.modules.values(), device)
                phase.turn(pair, trainer.losses)
            _wait(device)
            started = time.perf_counter(), time.process_time()
            for _ in range(steps):
                phase.turn(pair, trainer.losses)
            _wait(device)
            elapsed = time.perf_counter() - started[0], time.process_time() - started[1]
    samples = steps * options.batch
    on_gpu = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else _resident_megabytes()
    return {
        "variant": options.variant,
        "device": torch.cuda.get_device_name() if on_gpu else f"cpu, {torch.get_num_threads()} threads",
        "batch": options.batch,
        "size": settings.size,
        "bf16": options.bf16,
        "compile": options.compile,
        "steps": steps,
        "samples_per_s": round(samples / elapsed[0], 4),
        "seconds_per_sample": round(elapsed[0] / samples, 3),
        "cpu_seconds_per_sample": round(elapsed[1] / samples, 3),
        "peak_mb": round(peak),
        "tera_operations_per_sample": round(counter.get_total_flops() / options.batch / 1e12, 4),
        "torch": torch.__version__,
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _resident_megabytes() -> float:
    """The peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure one case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", choices=sorted(FILES), default="base")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument(
        "--steps",
        type=int,
        default=1,
        help="timed steps; with 1, the first step, which also counts operations",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
