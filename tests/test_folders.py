"""Files left by killed processes are deleted by the next process that writes there; no others are."""

import os
import re
import tempfile
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
from left_behind import leave_behind

from liveportrait import folders
from liveportrait.folders import (
    HIDDEN,
    STALE_AFTER_S,
    remove_unfinished,
    replace_folder,
    sweep_unfinished,
    temporary_folder,
    unfinished,
    unfinished_beside,
)
from liveportrait.media.files import output_file, output_folder


@pytest.fixture(autouse=True)
def a_new_process(monkeypatch):
    monkeypatch.setattr(folders, "_SWEPT", set())


def hidden_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(f"{HIDDEN}*"))


def aged(paths: set[Path], seconds: float) -> None:
    for path in {*paths, *(inside for folder in paths for inside in folder.rglob("*"))}:
        changed = path.stat().st_mtime - seconds
        os.utime(path, (changed, changed))


@pytest.mark.parametrize("suffix", [".mp4", ""])
def test_the_next_output_sweeps_what_a_killed_process_left(tmp_path, suffix):
    leave_behind(tmp_path, suffix)
    leave_behind(tmp_path, suffix)
    with output_file(tmp_path / "out.txt") as file:
        assert len(hidden_in(tmp_path)) == 1  # only its lock: the file itself does not exist yet
        file.write_text("whole")
    assert os.listdir(tmp_path) == ["out.txt"]


def test_files_being_written_are_not_swept(tmp_path):
    with output_folder(tmp_path / "frames") as folder, output_file(tmp_path / "out.gif") as file:
        with unfinished(file.with_suffix(".mkv")) as copy:
            for path in (folder / "000.png", file, copy):
                path.write_text("half")
            before = hidden_in(tmp_path)
            assert len(before) == 5  # three, and two locks
            swept = threading.Thread(target=sweep_unfinished, args=(tmp_path,))
            swept.start()
            swept.join()
            assert hidden_in(tmp_path) == before
        leave_behind(tmp_path)
        sweep_unfinished(tmp_path)
        assert hidden_in(tmp_path) == [name for name in before if not name.endswith(".mkv")]
    assert sorted(os.listdir(tmp_path)) == ["frames", "out.gif"]


def test_the_half_written_copy_beside_a_file_is_swept_too(tmp_path):
    lock = next(path for path in leave_behind(tmp_path, ".gif") if path.suffix == ".lock")
    (tmp_path / lock.name.replace(lock.suffixes[-2], "").replace(".lock", ".mkv")).write_text("half")
    sweep_unfinished(tmp_path)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "machine",
    [
        ("00000001", "00000002"),  # another one
        None,  # unknown, from older versions
    ],
)
def test_files_of_other_machines_are_swept_after_a_day(tmp_path, machine):
    left = leave_behind(tmp_path)
    lock = next(path for path in left if path.suffix == ".lock")
    if machine:
        other = re.sub(r"[0-9a-f]{8}-[0-9a-f]{8}\.lock", f"{'-'.join(machine)}.lock", lock.name)
        lock = lock.rename(lock.with_name(other))
    else:
        lock.unlink()
    sweep_unfinished(tmp_path)
    assert len(hidden_in(tmp_path)) == (2 if machine else 1)
    aged(set(tmp_path.iterdir()), STALE_AFTER_S + 60)
    sweep_unfinished(tmp_path)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("part", [0, 1])
def test_restarted_containers_and_machines_sweep_their_own_files(tmp_path, monkeypatch, part):
    leave_behind(tmp_path)
    host, boot = folders._machine()
    now = (host, "00000001") if part else ("00000001", boot)
    monkeypatch.setattr(folders, "_machine", lambda: now)
    sweep_unfinished(tmp_path)
    assert not os.listdir(tmp_path)


def test_files_that_another_machine_still_writes_are_kept_after_a_day(tmp_path, monkeypatch):
    with unfinished_beside(tmp_path / "out.txt") as file:
        file.write_text("half")
        aged(set(tmp_path.iterdir()), STALE_AFTER_S + 60)
        monkeypatch.setattr(folders, "_machine", lambda: ("00000001", "00000002"))
        sweep_unfinished(tmp_path)
        assert file.exists()


def test_files_of_other_programs_are_left_alone(tmp_path):
    names = {".liveportrait-notes", f"{HIDDEN}0123", ".hidden", f"{HIDDEN}0123456789abcdef.png"}
    for name in names:
        (tmp_path / name).write_text("mine")
    aged(set(tmp_path.iterdir()), 10 * STALE_AFTER_S)
    sweep_unfinished(tmp_path)
    assert set(os.listdir(tmp_path)) == names


def test_temporary_folders_are_swept_too(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    leave_behind(tmp_path)
    with temporary_folder() as folder:
        assert folder.parent == tmp_path and folder.stat().st_mode & 0o777 == 0o700
        assert len(hidden_in(tmp_path)) == 2
        remove_unfinished()
        assert not os.listdir(tmp_path)


def test_writing_continues_if_a_sweep_takes_a_lock_that_is_not_held_yet(tmp_path, monkeypatch):
    lock, calls = folders._lock, []

    def late(file: int, wait: bool) -> None:
        if wait and not calls:
            calls.append(file)
            sweep_unfinished(tmp_path)
            assert not os.listdir(tmp_path)
        lock(file, wait)

    monkeypatch.setattr(folders, "_lock", late)
    with output_file(tmp_path / "out.txt") as file:
        file.write_text("whole")
        sweep_unfinished(tmp_path)
    assert calls and os.listdir(tmp_path) == ["out.txt"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_new_folder_replaces_the_old_one_or_leaves_it(tmp_path, fails, monkeypatch):
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "page").write_text("old")
    rename = Path.rename

    def renamed(path: Path, target: Path) -> Path:
        if fails and (path / "page").read_text() == "new":
            raise PermissionError(13, "refused")
        return rename(path, target)

    with pytest.raises(PermissionError) if fails else nullcontext():  # noqa: SIM117
        with unfinished_beside(tmp_path / "dist") as fresh:
            fresh.mkdir()
            (fresh / "page").write_text("new")
            with monkeypatch.context() as patch:
                patch.setattr(Path, "rename", renamed)
                replace_folder(fresh, tmp_path / "dist")
    assert (tmp_path / "dist" / "page").read_text() == ("old" if fails else "new")
    assert os.listdir(tmp_path) == ["dist"]
