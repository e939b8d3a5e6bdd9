"""Runs the networks: one interface, several back ends that differ in speed only.

Nobody has run one on a GPU here (`cudagraphs`, `tensorrt`, and `onnx`, `compile` and `eager` on CUDA): those are
written from the documentation, and their tests run where there is a CUDA device.
"""

from liveportrait.engine.backend import Backend, make_backend
from liveportrait.engine.engine import Engine, pick_device
from liveportrait.engine.pytorch import EagerBackend

__all__ = ["Backend", "EagerBackend", "Engine", "make_backend", "pick_device"]
