"""Random inputs for readers of files: they are read, or refused in one sentence."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import re
import string
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hostile_documents import header, published
from hostile_pictures import FACE, encoded

from liveportrait import UserError
from liveportrait.apps.batches.manifest import read_manifest
from liveportrait.apps.server.application import create_application
from liveportrait.apps.server.settings import Limits, ServerSettings
from liveportrait.data.shards import read_entries
from liveportrait.motion import read_template
from liveportrait.motion.keyframes import read_keyframes
from liveportrait.training.config import read_toml
from liveportrait.training.stage_one.config import StageOneConfig

hypothesis = pytest.importorskip("hypothesis", reason="the extra [test] is not installed")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
# Many random ones if `scripts/fuzz.py` asks for them; otherwise always the same few.
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


class Nobody:
    """An animator that does nothing."""

    def open(self, source, options, progress):
        raise UserError("nobody is there")


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A client of a service, and the service's API description. Unexpected errors are raised here."""
    settings = ServerSettings(data=tmp_path_factory.mktemp("data"), limits=Limits(queue=5, max_bytes=2**20))
    application = create_application(settings, Nobody())
    with TestClient(application, base_url="http://127.0.0.1:8000") as client:
        while client.get("/readyz").status_code != 200:
            pass
        yield client, application.openapi()["paths"]


PICTURE = encoded("PNG", FACE[:32, :32])
NAMES = st.sampled_from(["file", "source", "driving", "kind", "options", "format"]) | st.text(max_size=5)
FORMS = st.lists(
    st.tuples(NAMES, st.sampled_from([PICTURE, PICTURE[:99], b"", b"edit", b"{}", b"\xff"]) | st.binary(max_size=30)),
    max_size=5,
)  # fmt: skip
JOBS = st.fixed_dictionaries({}, optional={
    "kind": st.sampled_from(["edit", "animate", "template", "speak"]) | LEAVES, "source": st.just("0" * 64) | LEAVES,
    "driving": st.lists(st.sampled_from(["smile", "talk", "0" * 64]) | LEAVES, max_size=3) | LEAVES,
    "format": st.sampled_from([".png", ".mp4", "..", "/x"]) | LEAVES,
    "options": st.dictionaries(st.sampled_from(["smile", "region", "batch"]) | st.text(max_size=6), LEAVES, max_size=3),
})  # fmt: skip
BODIES = st.one_of(
    st.builds(lambda value: {"json": value}, JOBS | JSON.filter(lambda value: "nan" not in repr(value))),
    st.builds(lambda parts: {"files": [(name, ("me.png", body)) for name, body in parts]}, FORMS),
    st.builds(lambda parts: {"files": [(name, (None, body)) for name, body in parts]}, FORMS),
    st.builds(
        lambda body: {"content": body, "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
        st.binary(max_size=60) | st.sampled_from([b"--b\r\n-3--b--\r\n", b"--b\r\n\r\n\r\n--b--\r\n"]),
    ),
    st.builds(
        lambda kind, body: {"content": body, "headers": {"Content-Type": kind}},
        st.sampled_from(["application/json", "text/plain", "multipart/form-data", "image/png", ""]),
        st.binary(max_size=60),
    ),
)


@given(st.data())
def test_service(service, data):
    """The service answers every request as its description says."""
    client, paths = service
    path = data.draw(st.sampled_from(sorted(paths)))
    method = data.draw(st.sampled_from(sorted(paths[path])))
    name = data.draw(
        st.sampled_from(["astronaut", "x", "%00", "..", "0" * 64]) | st.text("ab/é\n?#", max_size=6)
    )
    place = re.sub(r"\{\w+\}", lambda _: quote(name, safe=""), path)
    answer = client.request(method, place, **(data.draw(BODIES) if method == "post" else {}))
    if "{" not in path or re.fullmatch("[a-z0-9]+", name):
        assert str(answer.status_code) in paths[path][method]["responses"], (method, place, answer.text)
    assert answer.status_code < 500
    if answer.status_code >= 400:
        assert answer.json()["detail"]
