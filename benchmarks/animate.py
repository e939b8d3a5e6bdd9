"""End to end with the compact weights: frames per second, where the time goes, and peak memory.

    python benchmarks/animate.py                        # 10 s of 512 px video, fp32 and bf16
    python benchmarks/animate.py --memory 60 600        # peak memory for 60 s and 600 s of 512 px video

The driving video is made by the program itself: scikit-image's astronaut with the bundled motions, 512 px. Each case
runs in a process of its own and prints a JSON line. For the memory cases, whose point is the pipeline, the networks'
answers for the first batch are repeated (`--real-networks` runs them for every frame); tracking, paste-back, decoding
and encoding are real.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import torch
from skimage.data import astronaut

from liveportrait import AnimateOptions, Animator
from liveportrait.media import VideoReader, VideoWriter
from liveportrait.motion import bundled_templates, concatenate
from liveportrait.networks.interface import Motion


def make_driver(path: Path) -> None:
    """The astronaut, talking and looking around: 512 px, 25 frames/s."""
    motions = bundled_templates()
    template = concatenate([motions["talk"], motions["look-around"]])
    Animator.load("compact", precision="bf16").animate(astronaut(), template, path)


def lengthen(driver: Path, path: Path, seconds: int) -> None:
    """The driver over and over, `seconds` long."""
    with VideoReader(driver) as reader:
        frames = list(reader)
    height, width = frames[0].shape[:2]
    with VideoWriter(path, Fraction(25), width, height) as writer:
        for number in range(25 * seconds):
            writer.write(frames[number % len(frames)])


def repeat_first_answers(animator: Animator) -> None:
    """Networks that answer the first batch of each size for real and repeat that answer."""
    engine, rendered, motions = animator.engine, {}, {}
    render, extract = engine.render, engine.extract_motion

    def render_once(features, source, driving):  # type: ignore[no-untyped-def]
        count = len(driving.keypoints)
        if count not in rendered:
            rendered[count] = render(features, source, driving)
        return rendered[count].copy()

    def extract_once(images):  # type: ignore[no-untyped-def]
        if len(images) not in motions:
            motions[len(images)] = extract(images)
        return Motion(*(part.clone() for part in motions[len(images)]))

    engine.render, engine.extract_motion = render_once, extract_once  # type: ignore[method-assign]


def peak_megabytes() -> float:
    """The most memory this process has held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the kernel does not say VmHWM")


def run_case(driver: Path, precision: str, threads: int, stand_in: bool) -> None:
    """One animation, timed; prints a JSON line."""
    animator = Animator.load("compact", precision=precision, threads=threads)  # type: ignore[arg-type]
    if stand_in:
        repeat_first_answers(animator)
    with tempfile.TemporaryDirectory() as folder:
        report = animator.animate(astronaut(), driver, Path(folder) / "out.mp4", AnimateOptions())
    busy = sum(report.seconds.values())
    shares = {name: round(value / busy, 3) for name, value in report.seconds.items()}
    about = {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": threads,
        "precision": precision,
    }
    figures = {
        "frames": report.frames,
        "frames_per_s": round(report.frames / report.elapsed, 2),
        "peak_mb": round(peak_megabytes(), 1),
        "stand_in_networks": stand_in,
        "shares": shares,
    }
    print(json.dumps(figures | about))


def main() -> None:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", type=int, nargs="*", metavar="SECONDS")
    parser.add_argument("--real-networks", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--case", nargs=3, help=argparse.SUPPRESS
    )  # driver, precision, stand-in: one child's work
    options = parser.parse_args()
    if options.case:
        driver, precision, stand_in = options.case
        run_case(Path(driver), precision, options.threads, stand_in == "stand-in")
        return
    with tempfile.TemporaryDirectory() as folder:
        driver = Path(folder) / "driver.mp4"
        make_driver(driver)
        cases = [("fp32", driver), ("bf16", driver)]
        if options.memory:
            cases = [("bf16", Path(folder) / f"{seconds}s.mp4") for seconds in options.memory]
            for seconds, (_, path) in zip(options.memory, cases, strict=True):
                lengthen(driver, path, seconds)
        kind = "stand-in" if options.memory and not options.real_networks else "real"
        for precision, path in cases:
            child = [
                sys.executable,
                __file__,
                "--threads",
                str(options.threads),
                "--case",
                str(path),
                precision,
                kind,
            ]
            subprocess.run(child, check=True)


if __name__ == "__main__":
    main()
