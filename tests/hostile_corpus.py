"""The corpus of broken and malicious inputs, written into a folder."""

from __future__ import annotations

import os
from pathlib import Path

from hostile_documents import documents, names
from hostile_films import films, lists
from hostile_pictures import FACE, encoded, pictures
from media_samples import make_video


def write(folder: Path, scratch: Path, port: int = 9) -> int:
    """Writes the corpus into `folder` and returns how many inputs it has.

    Playlists refer to `secret.ts` in `scratch` and to `port` on localhost; code would create `ran` in `scratch`.
    """
    folder.mkdir()
    secret = make_video(scratch / "secret.ts", 8)
    groups = pictures(), films(scratch), documents(scratch / "ran"), lists(secret, port)
    for number, group in enumerate(groups):
        for name, data in group:
            (folder / f"{number}-{name}").write_bytes(data)
    for name in names():
        (folder / name).write_bytes(encoded("PNG", FACE))
    (folder / "folder.png").mkdir()
    (folder / "zero.mp4").symlink_to("/dev/zero")
    (folder / "input.png").symlink_to("/dev/stdin")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "nowhere.png").symlink_to("no-such-file")
    os.mkfifo(folder / "pipe.mp4")
    with (folder / "sparse.png").open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(2**40)
    return sum(1 for _ in folder.iterdir())
