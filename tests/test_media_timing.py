"""Frame rates as fractions, resampling frames to a constant rate, output files, contact sheets."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from liveportrait.errors import UserError
from liveportrait.media import check_output, contact_sheet, output_file
from liveportrait.media.timing import (
    FILE_JOINTS,
    STREAM_JOINTS,
    chain_times,
    constant_rate,
    hold_until_next,
    next_tick,
    plain_rate,
    sustained_rate,
)

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(25), NTSC, Fraction(60), Fraction(17)])
def test_constant_rate_is_found_without_a_declared_one(rate: Fraction) -> None:
    times = np.round(np.arange(5000) / float(rate), 3)  # Matroska keeps milliseconds
    assert constant_rate(times, [None]) == rate


def test_declared_rate_wins_on_short_clips() -> None:
    times = np.arange(10) / float(NTSC)
    assert constant_rate(times, [NTSC, Fraction(359640, 11999)]) == NTSC
    assert constant_rate(times[:1], [NTSC]) == NTSC
    assert constant_rate(times[:1], [None]) == 25


def test_odd_average_of_a_steady_clock_becomes_the_standard_rate() -> None:
    times = np.arange(900) / 29.998
    assert constant_rate(times, [Fraction(53970, 1799)]) == 30


def test_missing_frame_makes_the_rate_variable() -> None:
    ticks = np.delete(np.arange(100), 50)
    assert constant_rate(ticks / 30, [Fraction(30)]) is None
    assert sustained_rate(ticks / 30, []) == 30
    assert sustained_rate(ticks / float(NTSC), [None, NTSC]) == NTSC
    assert constant_rate(np.zeros(3), [Fraction(30)]) is None
    assert sustained_rate(np.zeros(3), []) is None


def test_sustained_rate_is_bounded() -> None:
    assert sustained_rate(np.arange(10) / 200, []) == 120
    assert sustained_rate(np.array([0.0, 0.033, 0.067, 0.1, 0.5]), []) == 30
    assert sustained_rate(np.array([0.0, 4.0, 8.0]), []) == Fraction(1, 4)


def test_frames_are_held_until_the_next() -> None:
    assert list(hold_until_next([(0, "a"), (1, "b"), (4, "c"), (4, "d"), (5, "e")])) == list("abbbde")
    assert list(hold_until_next([(2, "a"), (3, "b")])) == list("aaab")
    assert list(hold_until_next([])) == []
    assert list(hold_until_next([(0, "a"), (1, "b")], 4)) == list("abbb")


def test_frames_with_equal_times_move_to_later_ones() -> None:
    ticks = [-1]
    for seconds in (-0.001, 0.01, 0.02, 0.05, 1.0, 1001 / 30):
        ticks.append(next_tick(ticks[-1], seconds, NTSC))
    assert ticks == [-1, 0, 1, 2, 3, 30, 1000]
    for seconds in (33.4, 33.4, 33.4):  # three more at the same time: the last would be 0.067 s late
        ticks.append(next_tick(ticks[-1], seconds, NTSC))
    assert ticks[-3:] == [1001, 1002, 1002]


def test_the_rate_is_the_fastest_sustained_one() -> None:
    def rate(*intervals_ms: int) -> Fraction | None:
        return sustained_rate(np.cumsum([0, *intervals_ms]) / 1000, [])

    assert rate(*[33] * 30, *[67] * 31) == 30  # most intervals are long
    assert rate(*[1000] * 60, *[17] * 59) == 2 * NTSC  # a slideshow with one second of motion
    assert rate(*[40] * 20, *[200] * 100) == 25
    assert rate(*[50, 33] * 40) == 24  # 3:2 pulldown of films at 60 frames per second
    assert rate(*[40] * 300, 1, 1, 1, *[40] * 300) == 25  # a burst does not set the rate


def test_timestamps_that_are_too_dense_are_ignored() -> None:
    for times in (np.arange(24) / 90000, np.arange(24) / 1e6, np.append(np.arange(23) / 1e4, 0.5)):
        assert constant_rate(times, [Fraction(90000)]) is None
        assert sustained_rate(times, [Fraction(90000)]) is None
    assert plain_rate([Fraction(90000), None, Fraction(50)]) == 50
    assert plain_rate([Fraction(90000)]) == 25
    assert constant_rate(np.arange(24) / 240, []) == 240


def test_restarting_timestamps_are_chained() -> None:
    """Two recordings of four frames at 25/s, whose frames are shown in a different order than they are decoded."""
    shown, decoded = np.array([0.04, 0.16, 0.08, 0.12]), np.array([0.0, 0.04, 0.08, 0.12])
    for second in (0.0, 0.08, 50.0):  # from zero, with an overlap, much later
        times, gap = chain_times(
            np.append(shown, shown + second), np.append(decoded, decoded + second), STREAM_JOINTS
        )
        assert gap == pytest.approx(0.04)
        np.testing.assert_allclose(times, 0.04 * np.arange(1, 9))
    times, _ = chain_times(np.append(shown, shown + 50), np.append(decoded, decoded + 50), FILE_JOINTS)
    np.testing.assert_allclose(times[4:], 50 + 0.04 * np.arange(1, 5))


def test_output_is_checked_before_work_begins(tmp_path: Path) -> None:
    taken = tmp_path / "taken.mp4"
    taken.touch()
    for path, said in (
        (taken, "exists already"),
        (tmp_path / "a.xyz", r"ends in '.xyz': choose one of .mp4"),
        (tmp_path / "no" / "a.mp4", "no such folder"),
        (tmp_path, "has no suffix"),
    ):
        with pytest.raises(UserError, match=said):
            check_output(path, (".mp4",))
    with pytest.raises(UserError, match="is a folder"):
        check_output(tmp_path)
    assert check_output(taken, (".mp4",), overwrite=True) == taken
    assert check_output(tmp_path / "A.MP4", (".mp4",)).name == "A.MP4"
    assert [p.name for p in tmp_path.iterdir()] == ["taken.mp4"]


def test_output_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    with output_file(tmp_path / "a.npz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".") and temporary.suffix == ".npz"
        temporary.write_bytes(b"whole")
        assert not (tmp_path / "a.npz").exists()
    assert (tmp_path / "a.npz").read_bytes() == b"whole"
    with pytest.raises(KeyboardInterrupt), output_file(tmp_path / "a.npz", overwrite=True) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    assert (tmp_path / "a.npz").read_bytes() == b"whole"


def test_contact_sheet_keeps_aspect_ratios() -> None:
    red = np.full((40, 80, 3), (255, 0, 0), np.uint8)
    blue = np.full((300, 150, 3), (0, 0, 255), np.uint8)
    plain = contact_sheet([[red, blue], [blue]], cell=64)
    assert plain.shape == (4 + 2 * 68, 4 + 2 * 68, 3)
    assert plain[36, 36].tolist() == [255, 0, 0]
    assert plain[10, 36].tolist() == [255] * 3  # above the wide frame
    assert (plain == (0, 0, 255)).all(axis=2).sum() == 2 * 64 * 32
    labelled = contact_sheet([[red, blue], [blue]], ["talk", "smile"], cell=64)
    assert labelled.shape[0] > plain.shape[0]
    assert (labelled < 100).all(axis=2).any()
    with pytest.raises(ValueError, match="1 labels for 2 rows"):
        contact_sheet([[red], [blue]], ["talk"])
    with pytest.raises(ValueError, match="at least one frame"):
        contact_sheet([[]])
