"""Motion templates: our safetensors files, published pickles, and malicious pickles."""

from __future__ import annotations

import os
import pickle
import pickletools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from liveportrait.errors import UserError
from liveportrait.motion import (
    FACE_MESH,
    PUBLISHED,
    Template,
    change_since,
    concatenate,
    read_template,
    relative,
    write_template,
)
from liveportrait.motion.templates import unknown_canonical
from liveportrait.motion.templates.pickled_arrays import dumps, loads
from liveportrait.networks.geometry import rotation_matrix
from liveportrait.networks.interface import Motion

REAL = Path(__file__).resolve().parents[1] / "data" / "templates"


def make_template(
    count=5, layout=FACE_MESH.layout, fps="30000/1001", canonical=True, ratios=True
) -> Template:
    generator = torch.Generator().manual_seed(count)
    motion = Motion(
        rotation=rotation_matrix(*(torch.randn(3, count, generator=generator) * 10)),
        translation=torch.randn(count, 3, generator=generator) * 0.1,
        scale=1 + torch.rand(count, 1, generator=generator),
        canonical=torch.randn(count, 21, 3, generator=generator) if canonical else unknown_canonical(count),
        expression=torch.randn(count, 21, 3, generator=generator) * 0.03,
    )
    eyes = torch.rand(count, 2, generator=generator) if ratios else None
    lips = torch.rand(count, 1, generator=generator) if ratios else None
    return Template(motion, Fraction(fps), layout, eyes, lips)


def assert_same(found: Template, expected: Template) -> None:
    for ours, theirs in zip(found.motion, expected.motion, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
    assert (found.layout, found.fps) == (expected.layout, expected.fps)
    for name in ("eye_ratios", "lip_ratios"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("canonical", [True, False])
@pytest.mark.parametrize("ratios", [True, False])
def test_a_safetensors_template_round_trips(tmp_path, canonical, ratios):
    template = make_template(canonical=canonical, ratios=ratios)
    path = tmp_path / "t.safetensors"
    write_template(path, template)
    assert_same(read_template(path), template)


@pytest.mark.parametrize("canonical", [True, False])
def test_a_pickled_template_round_trips(tmp_path, canonical):
    template = make_template(layout=PUBLISHED.layout, fps="25", canonical=canonical)
    path = tmp_path / "t.pkl"
    write_template(path, template)
    assert_same(read_template(path), template)


def test_written_pickles_name_numpy_as_numpy_1_does_and_load_with_pickle(tmp_path):
    write_template(tmp_path / "t.pkl", make_template(layout=PUBLISHED.layout))
    data = (tmp_path / "t.pkl").read_bytes()
    names = {argument for opcode, argument, _ in pickletools.genops(data) if opcode.name == "GLOBAL"}
    assert names == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
    content = pickle.loads(data)  # made five lines above
    assert set(content["motion"][0]) == {"scale", "R", "exp", "t", "kp", "x_s"}
    assert content["output_fps"] == 30 and content["n_frames"] == 5
    assert content["c_eyes_lst"][0].shape == (1, 2)


def legacy_content(count: int = 3) -> dict:
    frame = {
        "scale": np.full((1, 1), 1.5, np.float32),
        "R_d": np.eye(3, dtype=np.float32).T[None],
        "exp": np.zeros((1, 21, 3), np.float32),
        "t": np.zeros((1, 3), np.float32),
    }
    ratios = [np.full((1, 2), 0.3, np.float32)] * count
    return {"n_frames": count, "motion": [dict(frame) for _ in range(count)], "c_d_eyes_lst": ratios}


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_the_older_schema_is_read(tmp_path, protocol):
    path = tmp_path / "old.pkl"
    path.write_bytes(pickle.dumps(legacy_content(), protocol=protocol))
    template = read_template(path)
    assert len(template) == 3 and template.fps == 25 and template.layout == "published"
    assert template.eye_ratios.shape == (3, 2) and template.lip_ratios is None
    assert template.motion.canonical.isnan().all()


@pytest.mark.parametrize("numpy_name", ["numpy.core", "numpy._core"])
def test_pickles_of_protocol_5_hold_the_same_arrays(numpy_name):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    still = values.copy()
    still.flags.writeable = False
    kinds = [values, np.asfortranarray(values), still, np.arange(8.0).reshape(4, 2)[::2], np.zeros((0, 3))]
    data = pickle.dumps({"arrays": kinds, "numbers": [np.float32(1.5), np.int64(3)]}, protocol=5)
    # A short string is its length in one byte, then its characters, in a frame whose length is not checked.
    for name in ("numeric", "multiarray"):
        long = f"numpy._core.{name}".encode()
        short = f"{numpy_name}.{name}".encode()
        data = data.replace(bytes([len(long)]) + long, bytes([len(short)]) + short)
    found = loads(data)
    assert found["numbers"] == [1.5, 3]
    for array, kind in zip(found["arrays"], kinds, strict=True):
        np.testing.assert_array_equal(array, kind)
        assert array.dtype == kind.dtype


@pytest.mark.skipif(not REAL.is_dir(), reason="the published templates are not here")
@pytest.mark.parametrize("name", ["d1", "talking", "wink"])
def test_real_pickled_templates_equal_their_safetensors_versions(name):
    template = read_template(REAL / f"{name}.pkl")
    mirror = np.load(REAL / f"{name}.npz")
    rotation = mirror["motion.R_d" if "motion.R_d" in mirror else "motion.R"]
    np.testing.assert_array_equal(template.motion.rotation.numpy(), rotation[:, 0])
    np.testing.assert_array_equal(template.motion.expression.numpy(), mirror["motion.exp"][:, 0])
    np.testing.assert_array_equal(template.motion.translation.numpy(), mirror["motion.t"][:, 0])
    np.testing.assert_array_equal(template.motion.scale.numpy(), mirror["motion.scale"][:, 0])
    assert template.fps == int(mirror["output_fps"])
    assert (template.eye_ratios is not None) == ("c_d_eyes_lst" in mirror)


class RunsCommand:
    def __reduce__(self):
        return os.system, ("touch /tmp/liveportrait-was-here",)


class HugeArray:
    def __reduce__(self):
        return np.ndarray, ((10**12,), "f8")


def deep(levels: int) -> bytes:
    return b"\x80\x04" + b")" + b"\x85" * levels + b"."


HOSTILE = {
    "command": pickle.dumps({"motion": [RunsCommand()]}),
    "command in protocol 0": b"cos\nsystem\n(S'true'\ntR.",
    "huge array": pickle.dumps(HugeArray()),
    "huge reconstruct": b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    b"\x8a\x06\x00\x00\x00\x00\x00\x10\x85C\x01b\x87R.",
    "huge bytes announced": b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x.",
    "huge memo index": b"\x80\x03Nr\xff\xff\xff\x7f.",
    "persistent id": b"\x80\x03Nq\x00Q.",
    "builtin": b"\x80\x03cbuiltins\neval\n.",
    "numpy's own loader": b"\x80\x03cnumpy\nload\n.",
    "attribute walk": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
    "object dtype": pickle.dumps(np.array([None]), protocol=3),
    "deep tuples": deep(200_000),
    "deep tuple as key": b"\x80\x04}" + b")" + b"\x85" * 200_000 + b"Ns.",
    "deep tuple as type": b"\x80\x04cnumpy\ndtype\n" + b")" + b"\x85" * 200_000 + b"\x89\x88\x87R.",
    "list in itself": b"\x80\x04]\x94h\x00a.",
    "many lists in lists": pickle.dumps([[[[[[1]]]]]]),
    "no end": b"\x80\x04}",
    "buffer that does not fit": pickle.dumps(np.ones(3, np.float32), protocol=5).replace(b"\x85", b"\x86", 1),
    "buffer of objects": b"\x80\x05\x8c\x12numpy.core.numeric\x8c\x0b_frombuffer\x93(C\x08aaaaaaaa"
    b"cnumpy\ndtype\n\x8c\x02O8\x89\x88\x87RK\x01\x85\x8c\x01CtR.",
    "buffer outside of the file": b"\x80\x05\x97.",
    "text": b"hello, this is no pickle",
    "underflow": b"\x80\x04\x87.",
    "extension code": b"\x80\x04\x82\x01.",
    "new object": b"\x80\x04cnumpy\nndarray\n)\x81.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(name, tmp_path):
    path = tmp_path / "t.pkl"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(UserError) as refusal:
        read_template(path)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 300 + len(str(path))
    assert not Path("/tmp/liveportrait-was-here").exists()


def test_the_array_reader_keeps_order_and_type():
    fortran = np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3))
    content = loads(dumps({"a": [fortran, np.float32([1])], "n": 3, "x": 0.5, "none": None}))
    np.testing.assert_array_equal(content["a"][0], fortran)
    assert content["a"][1].dtype == np.float32 and (content["n"], content["x"]) == (3, 0.5)


def _with_frame(key, value):
    content = legacy_content()
    content["motion"][1][key] = value
    return content


BROKEN = {
    "no motion": {"n_frames": 1},
    "no frames": {"n_frames": 0, "motion": []},
    "wrong count": {**legacy_content(), "n_frames": 7},
    "wrong shape": _with_frame("exp", np.zeros((1, 20, 3), np.float32)),
    "not finite": _with_frame("t", np.full((1, 3), np.nan, np.float32)),
    "no rotation": _with_frame("R_d", np.zeros((1, 3, 3), np.float32)),
    "zero scale": _with_frame("scale", np.zeros((1, 1), np.float32)),
    "endless rate": {**legacy_content(), "output_fps": float("inf")},
    "zero rate": {**legacy_content(), "output_fps": 0},
    "short ratios": {**legacy_content(), "c_lip_lst": [np.zeros((1, 1), np.float32)]},
}


@pytest.mark.parametrize("name", BROKEN)
def test_invalid_templates_are_refused(name, tmp_path):
    path = tmp_path / "t.pkl"
    path.write_bytes(pickle.dumps(BROKEN[name], protocol=4))
    with pytest.raises(UserError, match="cannot use the motion template"):
        read_template(path)


@pytest.mark.parametrize("damage", ["cut", "other", "version", "fps", "missing"])
def test_damaged_safetensors_templates_are_refused(damage, tmp_path):
    from safetensors.torch import save

    path = tmp_path / "t.safetensors"
    write_template(path, make_template())
    data = path.read_bytes()
    metadata = {"format": "liveportrait-motion-template", "version": "1", "fps": "25/1", "layout": "x"}
    tensors = {"rotation": torch.eye(3)[None]}
    broken = {
        "cut": data[: len(data) // 2],
        "other": save(tensors, {}),
        "version": save(tensors, {**metadata, "version": "2"}),
        "fps": save(tensors, {**metadata, "fps": "1/0"}),
        "missing": save(tensors, metadata),
    }
    path.write_bytes(broken[damage])
    with pytest.raises(UserError, match="cannot use the motion template"):
        read_template(path)


def test_a_template_of_other_weights_is_refused_with_the_reason(tmp_path):
    with pytest.raises(UserError, match=r"'published'.*'face-mesh-21'"):
        make_template(layout="published").require_layout(FACE_MESH)
    with pytest.raises(UserError, match="for the published weights only"):
        write_template(tmp_path / "t.pkl", make_template())
    assert not list(tmp_path.iterdir())


def test_a_template_is_not_overwritten_or_written_with_another_suffix(tmp_path):
    path = tmp_path / "t.safetensors"
    write_template(path, make_template(3))
    with pytest.raises(UserError, match="exists already"):
        write_template(path, make_template(4))
    assert len(read_template(path)) == 3
    write_template(path, make_template(4), overwrite=True)
    assert len(read_template(path)) == 4
    with pytest.raises(UserError, match="choose one of"):
        write_template(tmp_path / "t.npz", make_template())


@pytest.mark.parametrize("groups", [PUBLISHED, FACE_MESH], ids=lambda each: each.layout)
def test_joined_templates_move_a_source_as_each_does_alone(groups):
    parts = [make_template(3, groups.layout), make_template(4, groups.layout)]
    joined, source = concatenate(parts), make_template(1).motion
    assert len(joined) == 7

    def driven(template: Template) -> Motion:
        return relative(source, change_since(template.motion, template.frame(0), groups), "all", groups)

    expected = Motion.cat(driven(part) for part in parts)
    for made, wanted in zip(driven(joined), expected, strict=True):
        torch.testing.assert_close(made, wanted)
