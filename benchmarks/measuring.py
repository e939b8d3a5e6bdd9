"""Shared by the benchmarks: describing the machine, timing, and printing and comparing figures."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

Figure = dict[str, object]
TOLERANCE = 0.15  # a ratio may fall this much below the committed one


def machine(device: torch.device) -> Figure:
    """Hardware, versions, and how busy the machine is: a figure means little without them."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
    }


def _processor() -> str:
    """The processor's name and the widest vector instructions that PyTorch uses on it."""
    path, name = Path("/proc/cpuinfo"), platform.machine()
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def clock_of(device: torch.device) -> tuple[str, Callable[[], float]]:
    """Name and reading (seconds) of the clock for a device.

    On a CPU it is the CPU time of this process, summed over its threads, so that other processes disturb a figure
    only through the caches. On a GPU it is wall time, after the device has finished.
    """
    if device.type != "cuda":
        return "CPU seconds of the process", time.process_time

    def wall() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return "wall seconds, device synchronised", wall


def fastest(ways: Sequence[Callable[[], object]], clock: Callable[[], float], repeats: int) -> list[float]:
    """The shortest time in seconds of each function; they alternate, so that a busy spell affects all of them."""
    best = [float("inf")] * len(ways)
    for _ in range(repeats):
        for number, way in enumerate(ways):
            started = clock()
            way()
            best[number] = min(best[number], clock() - started)
    return best


@dataclass(frozen=True)
class Speeds:
    """A device's measured peak rates per second: multiply-accumulates, and bytes moved."""

    products: float
    bytes: float

    @classmethod
    def of(cls, device: torch.device, dtype: torch.dtype, side: int = 8192) -> Speeds:
        """Measure with a product of two square matrices and a copy of one, `side` numbers wide."""
        _, clock = clock_of(device)
        left, right = torch.randn(2, side, side, device=device).to(dtype)
        out = torch.empty_like(left)
        ways = (lambda: torch.mm(left, right, out=out), lambda: out.copy_(left))
        multiplying, moving = fastest(ways, clock, repeats=5)
        return cls(side**3 / multiplying, 2 * left.nbytes / moving)

    def floor(self, products: float, weights: int, batch: int) -> float:
        """A lower bound on a frame's seconds: its products, or reading the weights (bytes) once per batch."""
        return max(products / self.products, weights / batch / self.bytes)


def table(figures: Sequence[Figure], columns: Sequence[str]) -> str:
    """The figures as a Markdown table."""
    rows = [list(columns), ["---"] * len(columns)]
    rows += [[str(figure.get(column, "")) for column in columns] for figure in figures]
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    )


def write(figures: Sequence[Figure], path: Path) -> None:
    """Write figures for later comparison, one JSON line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(figure) + "\n" for figure in figures), encoding="utf-8")


def read(path: Path) -> list[Figure]:
    """Read a file written by `write`."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def regressions(figures: Sequence[Figure], committed: Sequence[Figure]) -> list[str]:
    """A sentence for each case whose `ratio` is clearly below the committed one; new cases are not compared.

    Ratios of times from one run carry over from machine to machine far better than the times themselves.
    """
    known = {figure["case"]: figure for figure in committed}
    found = []
    for figure in figures:
        before = known.get(figure["case"])
        if before is None:
            continue
        now, then = float(str(figure["ratio"])), float(str(before["ratio"]))
        if now < (1 - TOLERANCE) * then:
            found.append(f"{figure['case']}: {now:.2f} times the reference's speed, was {then:.2f}")
    return found
