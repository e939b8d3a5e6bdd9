"""Running the networks: one interface, several back ends that differ only in speed.

The GPU back ends (`cudagraphs`, `tensorrt`, and `onnx`, `compile` and `eager` on CUDA) have not been run here: they are
written from the documentation, and their tests run on machines with a CUDA device.
"""

from liveportrait.engine.backend import Backend, make_backend
from liveportrait.engine.engine import Engine, pick_device
from liveportrait.engine.pytorch import EagerBackend

__all__ = ["Backend", "EagerBackend", "Engine", "make_backend", "pick_device"]
