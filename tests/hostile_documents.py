"""Broken and malicious templates, checkpoints, tables and texts, generated on the fly."""

# ruff: noqa: E501 (tables)
from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hostile_pictures import Files
from safetensors.torch import save

from liveportrait.motion.templates import pickled_arrays

FRAMES = 3
KINDS = ("json", "csv", "jsonl", "toml")


class Code:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def tensors(frames: int = FRAMES, **others: torch.Tensor) -> dict[str, torch.Tensor]:
    """A template at rest."""
    return {
        "rotation": torch.eye(3).repeat(frames, 1, 1),
        "translation": torch.zeros(frames, 3),
        "scale": torch.ones(frames, 1),
        "expression": torch.zeros(frames, 21, 3),
        **others,
    }


def motion(values: dict[str, torch.Tensor], **others: str) -> bytes:
    about = {"format": "liveportrait-motion-template", "version": "1", "fps": "25/1", "layout": "face-mesh"}
    return save(values, about | others)


def header(text: bytes, length: int | None = None, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def published(**changes: Any) -> dict[str, Any]:
    frame = {"R": np.eye(3, dtype=np.float32)[None], "t": np.zeros((1, 3), np.float32),
             "scale": np.ones((1, 1), np.float32), "exp": np.zeros((1, 21, 3), np.float32)}  # fmt: skip
    return {"n_frames": 1, "output_fps": 25, "motion": [frame | changes.pop("frame", {})], **changes}


def templates(mark: Path) -> Files:
    code = pickle.dumps(Code(mark))
    for suffix in (
        "pkl",
        "safetensors",
        "pt",
        "pth",
        "npz",
        "npy",
        "mp4",
        "png",
        "json",
        "csv",
        "toml",
        "tar",
    ):
        yield f"code.{suffix}", code
    yield "code-inside.pkl", pickle.dumps({"motion": [Code(mark)], "n_frames": 1})
    yield "code-in-a-checkpoint.pth", _saved({"weights": Code(mark)})
    yield "code-in-a-checkpoint.safetensors", _saved({"weights": Code(mark)})
    yield "old-checkpoint.pth", _saved({"a": torch.zeros(3)}, _use_new_zipfile_serialization=False)
    yield "list.pth", _saved([1, 2, 3])
    for name, values in (("objects", np.array([Code(mark)], object)), ("plain", np.zeros(3))):
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=True)
        yield f"{name}.npy", buffer.getvalue()
        buffer = io.BytesIO()
        np.savez(buffer, rotation=values)
        yield f"{name}.npz", buffer.getvalue()
    yield "bomb.npz", _zip({"rotation.npy": bytes(5 * 10**7)})
    yield "escape.npz", _zip({"../../escaped.npy": b"x"})
    yield "deep.pkl", b"\x80\x03" + b"]" * 20000 + b"a" * 19999 + b"."
    yield "itself.pkl", b"\x80\x03]q\x00h\x00a."
    yield (
        "laughs.pkl",
        b"\x80\x03]q\x00" + b"".join(b"](" + b"h%c" % k * 9 + b"eq%c" % (k + 1) for k in range(60)) + b".",
    )
    yield "long-text.pkl", b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x."
    yield "cut.pkl", pickled_arrays.dumps(published())[:-40]
    for name, changes in {
        "nan": {"frame": {"t": np.full((1, 3), np.nan, np.float32)}}, "no-rate": {"output_fps": float("nan")},
        "great-rate": {"output_fps": 10**400}, "count": {"n_frames": 10**9}, "text": {"motion": "abc"},
        "shape": {"frame": {"exp": np.zeros((1, 21, 4), np.float32)}}, "double": {"frame": {"t": np.full((1, 3), 1e300)}},
        "rotation": {"frame": {"R": np.ones((1, 3, 3), np.float32)}},
    }.items():  # fmt: skip
        yield f"{name}.pkl", pickled_arrays.dumps(published(**changes))


def safetensors() -> Files:
    yield "good.safetensors", motion(tensors())
    yield "cut.safetensors", motion(tensors())[:-20]
    yield "length-2-63.safetensors", header(b"{}", 2**63)
    yield "length-all.safetensors", header(b"{}", 2**64 - 1)
    yield "length-100-mb.safetensors", header(b"{}", 10**8)
    yield "deep.safetensors", header(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)
    yield "no-json.safetensors", header(b"\xff" * 99)
    whole = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    for name, second in {
        "overlap": {**whole}, "beyond": {**whole, "data_offsets": [8, 2**60]}, "backwards": {**whole, "data_offsets": [16, 8]},
        "great-shape": {**whole, "shape": [2**40, 2**40], "data_offsets": [8, 16]}, "negative": {**whole, "shape": [-1]},
        "type": {**whole, "dtype": "OBJECT"}, "none": None,
    }.items():  # fmt: skip
        yield f"{name}.safetensors", header(json.dumps({"a": whole, "b": second}).encode(), body=bytes(16))
    for name, values in {
        "nan": tensors(translation=torch.full((FRAMES, 3), torch.nan)),
        "infinite": tensors(scale=torch.full((FRAMES, 1), torch.inf)),
        "shape": tensors(expression=torch.zeros(FRAMES, 22, 3)), "counts": tensors(scale=torch.ones(FRAMES + 1, 1)),
        "no-frames": tensors(0), "scalar": tensors(rotation=torch.tensor(1.0)), "half": tensors(scale=torch.ones(FRAMES, 1).half()),
        "missing": {"rotation": torch.eye(3)[None]}, "many": tensors(20_000),
    }.items():  # fmt: skip
        yield f"motion-{name}.safetensors", motion(values)
    for rate in ("", "nan", "1/0", "-1", "1e400", "9" * 5000, "25"):
        yield f"rate-{rate[:6].replace('/', '-')}.safetensors", motion(tensors(), fps=rate)
    yield "other.safetensors", save({"a": torch.zeros(2)})


def checkpoints() -> Files:
    """Checkpoints of training one small network, see `hostile_roles`."""
    shapes = {"weight": (3, 4), "bias": (3,)}
    groups = [f"{group}.small" for group in ("module", "average")]
    good = {f"{group}.{key}": torch.zeros(shape) for group in groups for key, shape in shapes.items()}
    slots = {f"optimizer.small.0.{slot}": torch.zeros(3, 4) for slot in ("exp_avg", "exp_avg_sq")}
    good |= slots | {"optimizer.small.0.step": torch.tensor(1.0)}
    said = {"step": 1, "samples": 2, "history": {}}
    for name, tensors, about in (
        ("good", good, said),
        ("no-tensors", {"a": torch.zeros(1)}, said),
        ("other-shape", good | {"module.small.bias": torch.zeros(9)}, said),
        ("great-shape", good | {"module.small.bias": torch.zeros(3, 2**20)}, said),
        ("slot", good | {"optimizer.small.0.exp_avg": torch.zeros(7)}, said),
        ("parameter", good | {"optimizer.small.99999999.exp_avg": torch.zeros(3, 4)}, said),
        ("parameter-name", good | {"optimizer.small.$(touch x).exp_avg": torch.zeros(3, 4)}, said),
        ("no-step", good, {"samples": 2, "history": {}}),
        ("step-text", good, {**said, "step": "many"}),
        ("step-infinite", good, {**said, "step": float("inf")}),
        ("history-list", good, {**said, "history": [1]}),
        ("list", good, [1, 2]),
        ("number", good, 3),
    ):
        yield f"training-{name}.safetensors", save(tensors, {"state": json.dumps(about)})
    yield "training-deep.safetensors", save(good, {"state": "[" * 50_000})
    yield "training-text.safetensors", save(good, {"state": "$(touch x)"})
    yield "training-silent.safetensors", save(good)


def texts() -> Files:
    row = '{"time": 0, "slider": "smile", "value": %s}'
    bodies = {
        "deep": b"[" * 100_000, "deep-object": b'{"keyframes":' * 50_000, "bom": b"\xef\xbb\xbf{}", "no-utf-8": b"\xff\xfe\x80{}",
        "nul": b'{"keyframes": "\0"}', "long": b'{"source": "' + b"x" * 3_000_000 + b'"}', "digits": b"[" + b"9" * 5000 + b"]",
        "cut": b'{"keyframes": [', "list": b"[1, 2]", "number": b"1e999", "nan": b'{"keyframes": [' + (row % "NaN").encode() + b"]}",
        "great": b'{"keyframes": [' + (row % ("1" + "0" * 400)).encode() + b"]}", "nested": b'{"keyframes": [[[{}]]]}',
        "csv-quote": b'source,driving\n"a,b', "csv-nul": b"source,driving\na\0b,c\n", "csv-long": b"source\n" + b"y" * 200_000,
        "csv-twice": b"source,source\na,b\n", "csv-cells": b"source\na,b,c,d\n", "csv-shell": b"source,driving\n$(touch x),;rm -rf ~|\n",
        "csv-address": b"source,driving\nhttp://127.0.0.1:9/a.png,file:///etc/passwd\n", "csv-dash": b"source,driving\n--help,-o\n",
        "csv-many": b"source,driving\n" + b"a.png,b.mp4\n" * 300, "csv-device": b"source,driving\n/dev/zero,/dev/stdin\n",
        "toml-deep": b"a = " + b"[" * 50_000, "toml-keys": b"a." * 20_000 + b"b = 1", "toml-dates": b"seed = 9999-99-99",
        "toml-type": b'seed = "x"\nthreads = -1\n', "toml-great": b"seed = " + b"9" * 4000, "toml-table": b"data = 3\n",
        "shell": b"`touch x`; $(touch x)\n",
    }  # fmt: skip
    for name, body in bodies.items():
        for kind in KINDS:
            if not name.startswith(("csv", "toml")) or name.startswith(kind):
                yield f"{name}.{kind}", body


def shards() -> Files:
    for name, members in {
        "no-video": {"a.mp4": b"x", "a.npz": b"y"}, "playlist": {"a.mp4": b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"},
        "deep": {"a.jpg": b"\xff\xd8\xff", "a.json": b"[" * 100_000}, "up": {"../../a.jpg": b"\xff\xd8\xff\xd9"},
    }.items():  # fmt: skip
        yield f"{name}.tar", _tar(members)
    yield "cut.tar", _tar({"a.jpg": bytes(4000)})[:2000]


def documents(mark: Path) -> Files:
    yield from templates(mark)
    yield from safetensors()
    yield from checkpoints()
    yield from texts()
    yield from shards()


def names() -> Iterator[str]:
    """Names that a shell, a terminal or FFmpeg would interpret; each is given to a valid picture."""
    yield from (
        "$(touch x).png",
        "; rm -rf x;.png",
        "new\nline.png",
        "-o.png",
        "--help.png",
        "|cat.png",
        "a'b\"c.png",
        "%d.png",
    )
    yield from (
        "%s%n.png",
        "concat:a|b.png",
        "http:x.png",
        "file:x.png",
        "pipe:0.png",
        "\u202egnp.exe.png",
        "é\u0301漢字.png",
        "x" * 250 + ".png",
    )


def _saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, body in members.items():
            file.writestr(name, body)
    return buffer.getvalue()


def _tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, body in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(body)
            tar.addfile(about, io.BytesIO(body))
    return buffer.getvalue()
