"""Runs the networks: one interface, several back ends."""

from liveportrait.engine.backend import Backend
from liveportrait.engine.device import pick_device
from liveportrait.engine.eager import EagerBackend
from liveportrait.engine.engine import Engine

__all__ = ["Backend", "EagerBackend", "Engine", "pick_device"]
