"""The program's face networks, for the page's modules to call: what runs them is not what these tests are about."""

from __future__ import annotations

from functools import cache

from web_browser import Network

from liveportrait.face import runtime

# Names of the page's graphs: those of the bundled files.
NAMES = {
    "face_detector": "face_detector",
    "face_landmarks": "face_landmarks_detector",
    "face_blendshapes": "face_blendshapes",
}


@cache
def face_networks() -> dict[str, Network]:
    """Each by its name: a function of a list with one tensor."""
    return {name: _answers(runtime.Network(file, threads=1)) for name, file in NAMES.items()}


def _answers(network: runtime.Network) -> Network:
    return lambda tensors: network(tensors[0])
