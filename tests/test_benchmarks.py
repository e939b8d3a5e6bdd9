"""Benchmarks: comparing and storing figures. Timing itself is not tested."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from measuring import Speeds, fastest, read, regressions, table, write


def test_only_ratios_that_clearly_fell_are_regressions() -> None:
    committed = [{"case": name, "ratio": 2.0} for name in ("fell", "wavered", "rose", "gone")]
    now = [
        {"case": "fell", "ratio": 1.69},
        {"case": "wavered", "ratio": 1.71},
        {"case": "rose", "ratio": 3.0},
        {"case": "new", "ratio": 0.1},
    ]
    assert regressions(now, committed) == ["fell: 1.69 times the reference's speed, was 2.00"]


def test_figures_are_read_back_as_written(tmp_path: Path) -> None:
    figures = [{"case": "a", "ratio": 1.5, "psnr_db": None}, {"case": "b", "ratio": 2.0}]
    write(figures, tmp_path / "new" / "figures.jsonl")
    assert read(tmp_path / "new" / "figures.jsonl") == figures


def test_variants_alternate_and_the_fastest_run_counts() -> None:
    clock, order = [0.0], []

    def way(name: str, seconds: list[float]) -> None:
        order.append(name)
        clock[0] += seconds.pop()

    slow, quick = [4.0, 7.0], [3.0, 2.0]
    best = fastest([lambda: way("slow", slow), lambda: way("quick", quick)], lambda: clock[0], repeats=2)
    assert best == pytest.approx([4.0, 2.0]) and order == ["slow", "quick"] * 2


def test_a_table_has_a_row_per_figure() -> None:
    assert table([{"case": "a", "ratio": 1.5}], ["case", "ratio"]).splitlines() == [
        "| case | ratio |",
        "| ---  | ---   |",
        "| a    | 1.5   |",
    ]


def test_the_lower_bound_is_the_longer_of_compute_and_memory() -> None:
    speeds = Speeds(products=1e12, bytes=1e11)
    assert speeds.floor(4e9, weights=10**8, batch=1) == pytest.approx(4e-3)
    assert speeds.floor(4e7, weights=10**8, batch=2) == pytest.approx(5e-4)
    measured = Speeds.of(torch.device("cpu"), torch.float32, side=256)
    assert measured.products > 1e8 and measured.bytes > 1e8
