"""The program's face networks, for the page's modules to call; these tests do not need the browser's runtime."""

from __future__ import annotations

from functools import cache

from web_browser import Network

from liveportrait.face import runtime

# Names of the page's graphs: names of the bundled files.
NAMES = {
    "face_detector": "face_detector",
    "face_landmarks": "face_landmarks_detector",
    "face_blendshapes": "face_blendshapes",
}


@cache
def face_networks() -> dict[str, Network]:
    """The networks by name, as functions of a list with one tensor."""
    return {name: _answers(runtime.Network(file, threads=1)) for name, file in NAMES.items()}


def _answers(network: runtime.Network) -> Network:
    return lambda tensors: network(tensors[0])
