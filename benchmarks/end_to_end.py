"""The compact weights end to end: frames per second, latency, cold start, memory.

    python benchmarks/end_to_end.py                                     # everything, every back end that can run
    python benchmarks/end_to_end.py latency cold-start --backends eager
    python benchmarks/end_to_end.py memory --memory 100 5000
    python benchmarks/end_to_end.py --check benchmarks/figures/end_to_end.jsonl    # exit 1 if a ratio fell
    python benchmarks/end_to_end.py --write benchmarks/figures/end_to_end.jsonl

The source is scikit-image's astronaut. The driving video is one of her, 512 px, made by the program itself, or that
given with `--driver`. Each case runs in a process of its own and prints a JSON line. `ratio` is what gets compared: the
networks' share of the CPU time (throughput, latency), the share of importing PyTorch (cold start), or the peak memory
of the first length over that of each (memory).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from measuring import Figure, read, regressions, table, write

CASES = ("throughput", "latency", "cold-start", "memory")
BACKENDS = {"eager": "torch", "openvino": "openvino", "onnx": "onnxruntime"}  # and the module each needs
COLUMNS = {
    "throughput": (
        "case",
        "precision",
        "frames_per_s",
        "cpu_ms_per_frame",
        "networks_cpu_ms_per_frame",
        "end_to_end_over_networks",
        "ratio",
        "load",
    ),
    "latency": ("case", "precision", "p50_ms", "p95_ms", "p99_ms", "cpu_ms_per_frame", "ratio", "load"),
    "cold-start": ("case", "precision", "seconds", "cpu_seconds", "ratio", "load"),
    "memory": ("case", "precision", "frames", "peak_mb", "ratio", "load"),
}
IMPORT_TORCH = "import torch, time; print(time.process_time())"


def child(*arguments: object) -> Figure:
    """The figure of one case, from a process of its own."""
    line = [sys.executable, __file__, "--child", *map(str, arguments)]
    waiting = {"OMP_WAIT_POLICY": "PASSIVE"}  # as the command line sets it
    ran = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True, env=waiting | os.environ)
    return json.loads(ran.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def figures_of(case: str, options: argparse.Namespace, folder: Path) -> Iterator[Figure]:
    """The figures of a case, one per back end or length."""
    threads = options.threads
    if case == "cold-start":
        line = [sys.executable, "-c", IMPORT_TORCH]
        torch_seconds = float(subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True).stdout)
        yield {"case": "cold start of the demo"} | child("cold-start", time.time(), torch_seconds, threads)
    elif case == "memory":
        first: float | None = None
        for frames in options.memory:
            figure = child("memory", driver(options, folder, frames), threads)
            peak = float(str(figure["peak_mb"]))
            first = first or peak
            yield {"case": f"memory, {frames} frames"} | figure | {"ratio": round(first / peak, 3)}
    else:
        frames = options.frames if case == "throughput" else min(options.frames, 100)
        for backend in options.backends:
            yield {"case": f"{case}, {backend}"} | child(
                case, backend, driver(options, folder, frames), threads
            )


def driver(options: argparse.Namespace, folder: Path, frames: int) -> Path:
    """The driving video of that length."""
    if options.driver:
        return Path(options.driver)
    path = folder / f"{frames}.mp4"
    if not path.exists():
        child("make-driver", path, frames)
    return path


def run_child(arguments: list[str]) -> None:
    """Run one case in a child process and print a JSON line."""
    import pipeline_cases as cases
    import torch
    from measuring import machine

    figure: Figure = {}
    match arguments:
        case ["make-driver", path, frames]:
            cases.make_driver(Path(path), int(frames))
        case ["throughput", backend, path, threads]:
            figure = cases.throughput(backend, Path(path), int(threads))
        case ["latency", backend, path, threads]:
            figure = cases.latency(backend, Path(path), int(threads))
        case ["memory", path, threads]:
            figure = cases.memory(Path(path), int(threads))
        case ["cold-start", started, torch_seconds, threads]:
            figure = cases.cold_start(float(started), float(torch_seconds), int(threads))
    print(json.dumps(figure | machine(torch.device("cpu"))))


def main() -> int:
    """Run the cases; 1 if a ratio fell below a committed one."""
    if sys.argv[1:2] == ["--child"]:
        run_child(sys.argv[2:])
        return 0
    available = [name for name, module in BACKENDS.items() if find_spec(module)]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}; all by default")
    parser.add_argument("--backends", nargs="+", choices=sorted(BACKENDS), default=available)
    parser.add_argument("--frames", type=int, default=250, help="frames of the driving video")
    parser.add_argument(
        "--driver", metavar="FILE", help="a driving video to use instead of the generated one"
    )
    parser.add_argument("--memory", nargs="+", type=int, default=[100, 1500], metavar="FRAMES")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare with these figures")
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the figures")
    options = parser.parse_args()
    if unknown := [case for case in options.cases if case not in CASES]:
        parser.error(f"there is no case {unknown[0]}: choose from {', '.join(CASES)}")
    kept = []
    with tempfile.TemporaryDirectory() as folder:
        for case in options.cases or CASES:
            figures = []
            for figure in figures_of(case, options, Path(folder)):
                print(json.dumps(figure), flush=True)
                figures.append(figure)
            print(table(figures, COLUMNS[case]), flush=True)
            kept += figures
    if options.write:
        write(kept, options.write)
    fallen = regressions(kept, read(options.check)) if options.check else []
    for sentence in fallen:
        print(sentence, file=sys.stderr)
    return 1 if fallen else 0


if __name__ == "__main__":
    sys.exit(main())
