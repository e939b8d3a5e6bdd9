"""The browser's face networks give the same results as the program's."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.data import astronaut
from web_networks import NAMES

from liveportrait.apps.web.face_graphs import face_graphs
from liveportrait.errors import UserError
from liveportrait.face import default_analyzer
from liveportrait.face.analyzer import BLENDSHAPE_LANDMARKS
from liveportrait.face.detector import _views
from liveportrait.face.mesh import MeshRegion, _sampled
from liveportrait.face.runtime import Network

NEAR = {"face_detector": 1e-3, "face_landmarks": 1e-3, "face_blendshapes": 1e-5}  # px, logits, scores


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    """The networks' inputs for a photograph."""
    portrait = astronaut()
    face = default_analyzer().detect(portrait, 80)[0]
    view = next(_views(portrait, 80)).pixels[None]
    square = _sampled(portrait, MeshRegion.of_landmarks(face.landmarks).to_picture())[None]
    return {
        "face_detector": view.astype(np.float32) / 127.5 - 1,
        "face_landmarks": square.astype(np.float32) / 255,
        "face_blendshapes": face.landmarks[list(BLENDSHAPE_LANDMARKS), :2][None],
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_matches_the_network(name, inputs):
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    session = runtime.InferenceSession(dict(face_graphs())[name], providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()
    results = session.run(None, {port.name: inputs[name]})
    assert port.shape == list(inputs[name].shape)
    for found, expected in zip(results, Network(NAMES[name], threads=1)(inputs[name]), strict=False):
        np.testing.assert_allclose(found.reshape(-1), expected.reshape(-1), atol=NEAR[name])


def test_the_graphs_are_small():
    """Download size matters, and these are needed before the first face is found."""
    assert sum(len(data) for _, data in face_graphs()) < 3.6e6


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("liveportrait.apps.web.face_graphs.FOLDER", tmp_path)
    (tmp_path / "face_detector.onnx").write_bytes(b"something else")
    with pytest.raises(UserError, match="damaged"):
        next(face_graphs())
