"""Give every hostile file to every reader, in a separate process with limits, and report how each reading ended.

`python hostile_roles.py FOLDER REPORT [ROLE ...]` writes a line of JSON before and after each reading.
"""

from __future__ import annotations

import json
import logging
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

MEMORY = 3 * 2**30  # bytes, in addition to what the libraries use
SECONDS = 60  # s for one reading, on a busy machine


def roles(scratch: Path) -> dict[str, Callable[[Path], object]]:
    """How the program reads a file in each place where a user may provide one."""
    import torch

    from liveportrait.apps.batches.manifest import read_manifest
    from liveportrait.apps.server.settings import Limits
    from liveportrait.apps.server.store import JobStore
    from liveportrait.apps.server.uploads import Uploads
    from liveportrait.data.shards import read_entries
    from liveportrait.folders import sha256_of
    from liveportrait.media import VideoReader, check_input, load_image, media_kind, plan_sound
    from liveportrait.motion import read_template
    from liveportrait.motion.keyframes import read_keyframes
    from liveportrait.training.checkpoint import TrainingState, ema_copy
    from liveportrait.training.config import read_toml
    from liveportrait.training.stage_one.config import StageOneConfig
    from liveportrait.weights import published, resolve
    from liveportrait.weights.card import CARD_FILE, read_card
    from liveportrait.weights.store import WEIGHTS_FILE, load_folder

    uploads = Uploads(scratch / "uploads", JobStore(scratch / "jobs.sqlite"), Limits(max_bytes=2**24))

    def media(path: Path) -> object:
        if media_kind(path) == "image":
            return load_image(path).shape
        with VideoReader(path) as reader:
            return sum(1 for _ in islice(reader, 5000))

    def checkpoint(path: Path) -> object:
        return published._read_pth(path)  # reads all of them, without the large networks

    def folder(path: Path) -> object:
        place = scratch / "weights"
        place.mkdir(exist_ok=True)
        card = place / CARD_FILE
        card.unlink(missing_ok=True)
        card.symlink_to(path.resolve() if path.exists() else path)
        return read_card(place)

    def weights(path: Path) -> object:
        place = scratch / "networks"
        place.mkdir(exist_ok=True)
        if not (place / CARD_FILE).exists():
            (place / CARD_FILE).write_bytes((resolve("compact") / CARD_FILE).read_bytes())
        # Give small files the matching checksum, so that they are parsed; large ones must fail the check.
        if path.is_file() and path.stat().st_size < 2**20:
            about = json.loads((place / CARD_FILE).read_text())
            (place / CARD_FILE).write_text(json.dumps(about | {"sha256": sha256_of(path)}))
        stored = place / WEIGHTS_FILE
        stored.unlink(missing_ok=True)
        stored.symlink_to(path.resolve() if path.exists() else path)
        return load_folder(place)

    def training(path: Path) -> object:
        network = torch.nn.Linear(4, 3)
        optimizers = {"small": torch.optim.AdamW(network.parameters())}
        state = TrainingState({"small": network}, dict(optimizers), {"small": ema_copy(network)})
        return state.load(path)

    def upload(path: Path) -> object:
        with check_input(path).open("rb") as stream:  # clients send bytes, whatever their own file is
            return uploads.keep(stream, path.name)

    return {
        "media": media,
        "sound": lambda path: plan_sound(path, ".mp4"),
        "template": read_template,
        "checkpoint": checkpoint,
        "card": folder,
        "weights": weights,
        "training": training,
        "keyframes": lambda path: read_keyframes(path, lambda slider, value: None),
        "manifest": lambda path: read_manifest(path, scratch, "compact"),
        "config": lambda path: read_toml(StageOneConfig, path),
        "shard": lambda path: [entry.frames() for entry in read_entries(path)],
        "upload": upload,
    }


def outcome(read: Callable[[Path], object], path: Path) -> dict[str, Any]:
    """How a reading ended, its CPU seconds, and its peak additional memory (MiB)."""
    from liveportrait import UserError

    before, peak = _resident(), Peak()
    start = time.process_time()
    signal.alarm(SECONDS)
    try:
        with peak:
            read(path)
        result = {"end": "output"}
    except UserError as error:
        result = {"end": "refused", "message": str(error)[:600]}
    except BaseException as error:
        result = {"end": "fault", "message": f"{type(error).__name__}: {error}"[:600]}
    finally:
        signal.alarm(0)
    seconds = time.process_time() - start
    return {**result, "seconds": round(seconds, 3), "mib": max(0, round((peak.most - before) / 2**20))}


class Peak:
    """The peak resident memory during a block, sampled every few milliseconds."""

    def __enter__(self) -> None:
        self.most, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while True:
            self.most = max(self.most, _resident())
            if self._over.wait(0.005):
                return

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class TooLong(BaseException):
    """A reading took too long. Not an Exception, so that no reader catches it."""


def _alarm(*_: object) -> None:
    raise TooLong(f"not done after {SECONDS} s of waiting")


def main(folder: Path, report: Path, wanted: list[str]) -> None:
    logging.getLogger("libav").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGALRM, _alarm)
    with tempfile.TemporaryDirectory() as scratch, report.open("a", encoding="utf-8") as out:
        readers = roles(Path(scratch))
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        for path in sorted(folder.iterdir()):
            for name, read in readers.items():
                if wanted and name not in wanted:
                    continue
                print(json.dumps({"file": path.name, "role": name, "end": "begun"}), file=out, flush=True)
                print(
                    json.dumps({"file": path.name, "role": name, **outcome(read, path)}), file=out, flush=True
                )
        left = [str(path) for path in Path(scratch).rglob(".*")]
        print(json.dumps({"file": "", "role": "", "end": "left", "message": left}), file=out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
