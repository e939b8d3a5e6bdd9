"""What the tests of the motion and pictures in the browser share: records as scripts take them, and scripts run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from web_browser import Modules, Network

from liveportrait.apps.web.motion_constants import motion_constants
from liveportrait.networks.interface import Motion, Pose


def run(web: Modules, script: str, networks: Mapping[str, Network] | None = None, **values: Any) -> Any:
    """What a script returns, run after the constants are set."""
    script = "const {setConstants} = await load('constants.js'); setConstants({motion: constants});" + script
    return web.run(script, networks, constants=motion_constants(), **values)


def flat(record: Motion | Pose) -> dict[str, np.ndarray]:
    """The first row of a record as scripts take it."""
    return {name: part[0].flatten().numpy() for name, part in record._asdict().items()}
