"""Shared by the tests of the browser's motion and pictures: converts records for scripts, and runs scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from web_browser import Modules, Network

from liveportrait.apps.web.motion_constants import motion_constants
from liveportrait.networks.interface import Motion, Pose


def run(web: Modules, script: str, networks: Mapping[str, Network] | None = None, **values: Any) -> Any:
    """Set the constants, run a script, and return its result."""
    script = "const {setConstants} = await load('constants.js'); setConstants({motion: constants});" + script
    return web.run(script, networks, constants=motion_constants(), **values)


def flat(record: Motion | Pose) -> dict[str, np.ndarray]:
    """The first row of a record in the scripts' format."""
    return {name: part[0].flatten().numpy() for name, part in record._asdict().items()}
