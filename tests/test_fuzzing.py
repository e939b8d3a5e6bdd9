"""Random inputs for what reads files: an answer, or one sentence."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import string

import numpy as np
import pytest
from hostile_documents import header, published

from liveportrait import UserError
from liveportrait.apps.batches.manifest import read_manifest
from liveportrait.data.shards import read_entries
from liveportrait.motion import read_template
from liveportrait.motion.keyframes import read_keyframes
from liveportrait.training.config import read_toml
from liveportrait.training.stage_one.config import StageOneConfig

hypothesis = pytest.importorskip("hypothesis", reason="the extra [test] is not installed")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
# By chance, and many, where `scripts/fuzz.py` asks for them; otherwise always the same few.
WANTED = os.environ.get("FUZZ_EXAMPLES")
settings.register_profile(
    "files",
    max_examples=int(WANTED or 40),
    derandomize=WANTED is None,
    deadline=None,
    database=None,
    suppress_health_check=CHECKS,
)
settings.load_profile("files")

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner)
)
WORDS = st.sampled_from(
    ["time", "slider", "value", "interpolation", "source", "driving", "name", "kind", "seed", "data"]
)
OBJECTS = st.dictionaries(WORDS | st.text(max_size=6), LEAVES | JSON, max_size=6)


def refused_or_read(read, path, data):
    path.write_bytes(data)
    try:
        read(path)
    except UserError as error:
        assert str(error)


@given(
    st.binary(max_size=300)
    | OBJECTS.map(lambda each: json.dumps({"keyframes": [each]}).encode())
    | JSON.map(lambda x: json.dumps(x).encode())
)
def test_keyframes(tmp_path, data):
    refused_or_read(lambda path: read_keyframes(path, lambda slider, value: None), tmp_path / "k.json", data)


@given(
    st.binary(max_size=300)
    | OBJECTS.map(lambda each: json.dumps(each).encode())
    | JSON.map(lambda x: json.dumps(x).encode())
)
def test_manifest_of_lines(tmp_path, data):
    refused_or_read(lambda path: read_manifest(path, tmp_path, "compact"), tmp_path / "m.jsonl", data)


@given(st.binary(max_size=300) | st.lists(st.lists(WORDS | st.text(max_size=9), max_size=4), max_size=4))
def test_manifest_as_a_table(tmp_path, rows):
    if isinstance(rows, list):
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        rows = text.getvalue().encode("utf-8", "replace")
    refused_or_read(lambda path: read_manifest(path, tmp_path, "compact"), tmp_path / "m.csv", rows)


@given(st.binary(max_size=300) | st.lists(st.tuples(WORDS, LEAVES), max_size=5).map(
    lambda pairs: "\n".join(f"{key} = {json.dumps(value)}" for key, value in pairs).encode("utf-8", "replace"))
    | st.text(string.punctuation + "ab1\n", max_size=80).map(str.encode))  # fmt: skip
def test_configuration(tmp_path, data):
    refused_or_read(lambda path: read_toml(StageOneConfig, path), tmp_path / "c.toml", data)


ARRAYS = st.sampled_from(
    [np.zeros(3), np.float32(1), np.full((1, 3), np.inf), np.zeros((1, 21, 3), np.float32)]
)
FRAMES = st.dictionaries(st.sampled_from(["R", "R_d", "t", "scale", "exp", "kp"]), ARRAYS | LEAVES)


@given(st.binary(max_size=200)
    | st.builds(lambda frame, fps: pickle.dumps(published(frame=frame, output_fps=fps), 4), FRAMES, LEAVES)
    | JSON.map(pickle.dumps))  # fmt: skip
def test_published_template(tmp_path, data):
    refused_or_read(read_template, tmp_path / "t.pkl", data)


TENSOR = st.fixed_dictionaries({
    "dtype": st.sampled_from(["F32", "F16", "I64", "X"]), "shape": st.lists(st.integers(-1, 2**40), max_size=3),
    "data_offsets": st.lists(st.integers(0, 64), min_size=2, max_size=2),
})  # fmt: skip


@given(st.binary(max_size=200) | st.dictionaries(
    st.sampled_from(["rotation", "translation", "scale", "expression", "__metadata__"]), TENSOR | LEAVES
).map(lambda about: header(json.dumps(about).encode(), body=bytes(32))))  # fmt: skip
def test_template(tmp_path, data):
    refused_or_read(read_template, tmp_path / "t.safetensors", data)


@given(st.binary(max_size=2000))
def test_shard(tmp_path, data):
    refused_or_read(lambda path: list(read_entries(path)), tmp_path / "s.tar", data)
