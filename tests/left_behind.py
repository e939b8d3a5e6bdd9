"""The files that a process leaves if it is killed while writing."""

import multiprocessing
import os
import signal
from pathlib import Path

from liveportrait.folders import unfinished_beside


def leave_behind(folder: Path, suffix: str = "") -> set[Path]:
    """Kill a process while it writes a file (a folder if there is no suffix), and return the files that it leaves."""
    before = set(folder.iterdir())
    process = multiprocessing.get_context("fork").Process(target=_write_and_die, args=(folder, suffix))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    left = set(folder.iterdir()) - before
    assert len(left) == 2, "the file and its lock"
    return left


def _write_and_die(folder: Path, suffix: str) -> None:
    with unfinished_beside(folder / "out", suffix) as hidden:
        if suffix:
            hidden.write_bytes(b"half")
        else:
            hidden.mkdir()
            (hidden / "000.png").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
