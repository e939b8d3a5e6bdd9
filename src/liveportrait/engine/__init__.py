"""Runs the networks: one interface, several back ends."""

from liveportrait.engine.backend import Backend
from liveportrait.engine.device import pick_device
from liveportrait.engine.eager import EagerBackend
from liveportrait.engine.engine import Engine
from liveportrait.engine.select import make_backend

__all__ = ["Backend", "EagerBackend", "Engine", "make_backend", "pick_device"]
