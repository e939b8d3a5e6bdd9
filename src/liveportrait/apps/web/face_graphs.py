"""The face networks as graphs for browsers: bundled files, made by scripts/make_face_onnx.py."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from liveportrait.errors import UserError
from liveportrait.face.runtime import FOLDER

SHA256 = {
    "face_detector": "a7a55bf3b1bc16adec8fc4458b513b85c6c4a7529f72f16d2cd5b1024def9e45",
    "face_landmarks": "182131d1362fee8f2251356b0dc69b2f6208f0dcc234d5752220af0c3b2cdd61",
    "face_blendshapes": "a04405e522711d65a05ce2571507c34442b66c0109770d0407edcc857dc1d97b",
}


def face_graphs() -> Iterator[tuple[str, bytes]]:
    """Name and ONNX file of each network. Raises `UserError` where a file is not the bundled one."""
    for name, expected in SHA256.items():
        path = FOLDER / f"{name}.onnx"
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != expected:
            raise UserError(f"{path} is missing or damaged: install the program again")
        yield name, data
