"""The cases of `end_to_end.py`. Each runs in its own process, so that none warms up or fills memory for another."""

from __future__ import annotations

import resource
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Figure
from skimage.data import astronaut

from liveportrait import Animator
from liveportrait.animation.session import parallel_map
from liveportrait.media import VideoReader, VideoWriter
from liveportrait.motion import bundled_templates, concatenate
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Layers

WARM_UP = 5  # frames of the live case that are not timed


def make_driver(path: Path, frames: int) -> None:
    """Write a video of the astronaut talking and looking around, forward and backward: 512 px, 25 frames/s."""
    motions = bundled_templates()
    template = concatenate([motions["talk"], motions["look-around"]])
    with tempfile.TemporaryDirectory() as folder:
        short = Path(folder) / "short.mp4"
        Animator.load("compact").animate(astronaut(), template, short)
        with VideoReader(short) as reader:
            pictures = list(reader)
    there_and_back = [*pictures, *pictures[-2:0:-1]]
    height, width = pictures[0].shape[:2]
    with VideoWriter(path, Fraction(25), width, height) as writer:
        for number in range(frames):
            writer.write(there_and_back[number % len(there_and_back)])


def throughput(backend: str, driver: Path, threads: int) -> Figure:
    """Animates a video from file to file, then runs the same number of frames through the networks alone."""
    animator = Animator.load("compact", threads=threads, backend=backend)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        report = animator.animate(astronaut(), driver, Path(folder) / "out.mp4")
    profile = report.profile
    wall, cpu = networks_alone(animator, report.frames)
    return {
        "scope": "file to file",
        "precision": animator.engine.precision,
        "batch": 4,
        "frames": report.frames,
        "frames_per_s": round(profile.rate, 2),
        "cpu_ms_per_frame": round(1000 * profile.cpu / report.frames, 1),
        "networks_ms_per_frame": round(1000 * wall / report.frames, 1),
        "networks_cpu_ms_per_frame": round(1000 * cpu / report.frames, 1),
        "end_to_end_over_networks": round(profile.elapsed / wall, 2),
        "ratio": round(cpu / profile.cpu, 3),
        "stages_cpu_ms": {
            name: round(1000 * spent.cpu / report.frames, 2) for name, spent in profile.stages.items()
        },
    }


def networks_alone(animator: Animator, frames: int) -> tuple[float, float]:
    """Wall and CPU seconds that W and G take for `frames` frames, in parallel as in real use.

    M is left out: it sees one frame of a driver, whose motion comes from the tracker after that.
    """
    engine = animator.engine
    with animator.open(astronaut()) as portrait:
        face = portrait.source.faces[0].view(portrait.session(), [0], [astronaut()])
    home, driving = pose_of(face.motion), pose_of(face.motion.expand(4))

    def work(number: int) -> None:
        engine.render(face.features, home, driving)

    count = -(-frames // 4)
    with engine.workers(count) as workers:
        for start in range(2):  # the first round warms up
            wall, cpu = time.perf_counter(), time.process_time()
            items = range(workers.count if start == 0 else count)
            with parallel_map(work, items, workers.count, enter=workers.enter) as results:
                for _ in results:
                    pass
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall, cpu


def latency(backend: str, driver: Path, threads: int) -> Figure:
    """Frames one at a time, as from a camera: a picture goes in, the portrait with its face moved comes out."""
    animator = Animator.load("compact", threads=threads, backend=backend)  # type: ignore[arg-type]
    with VideoReader(driver) as reader:
        pictures = list(reader)
    portrait = animator.open(astronaut())
    live, wall, cpu, networks = portrait.live(), [], [], []
    render, spent = animator.engine.layers, 0.0

    def timed(*arguments: Any) -> Layers:
        nonlocal spent
        started = time.process_time()
        layers = render(*arguments)
        spent = time.process_time() - started
        return layers

    animator.engine.layers = timed  # type: ignore[method-assign]
    for picture in pictures:
        started = time.perf_counter(), time.process_time()
        live(picture)
        wall.append(1000 * (time.perf_counter() - started[0]))
        cpu.append(1000 * (time.process_time() - started[1]))
        networks.append(1000 * spent)
    p50, p95, p99 = np.percentile(wall[WARM_UP:], [50, 95, 99])
    own = float(np.median(networks[WARM_UP:]))
    return {
        "scope": "one live frame",
        "precision": animator.engine.precision,
        "batch": 1,
        "frames": len(pictures) - WARM_UP,
        "p50_ms": round(p50, 1),
        "p95_ms": round(p95, 1),
        "p99_ms": round(p99, 1),
        "cpu_ms_per_frame": round(float(np.median(cpu[WARM_UP:])), 1),
        "networks_cpu_ms_per_frame": round(own, 1),
        "ratio": round(own / float(np.median(cpu[WARM_UP:])), 3),
    }


def memory(driver: Path, threads: int) -> Figure:
    """Peak memory of a process that animates an entire video."""
    animator = Animator.load("compact", threads=threads)
    with tempfile.TemporaryDirectory() as folder:
        report = animator.animate(astronaut(), driver, Path(folder) / "out.mp4")
    return {
        "scope": "file to file",
        "precision": animator.engine.precision,
        "batch": 4,
        "frames": report.frames,
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def cold_start(started: float, torch_seconds: float, threads: int) -> Figure:
    """The bundled demo up to its first frames, in a process started at `started`.

    `torch_seconds` is the time that importing PyTorch takes.
    """
    torch.set_num_threads(threads)
    figure: Figure = {}

    def stop(step: str, done: int, total: int | None) -> None:
        own = resource.getrusage(resource.RUSAGE_SELF)
        figure["seconds"] = round(time.time() - started, 2)
        cpu = own.ru_utime + own.ru_stime
        figure["cpu_seconds"] = round(cpu, 2)
        figure["ratio"] = round(torch_seconds / cpu, 3)
        raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        try:
            animator = Animator.load("compact")
            templates = bundled_templates()
            animator.animate(
                astronaut(), concatenate(list(templates.values())), Path(folder) / "out.mp4", progress=stop
            )
        except KeyboardInterrupt:
            pass
    return {"scope": "process start to first frame", "precision": animator.engine.precision} | figure
