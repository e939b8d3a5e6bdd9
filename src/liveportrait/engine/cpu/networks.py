"""`optimised_for_cpu`: exact savings that pay on a processor, in PyTorch."""

from __future__ import annotations

from liveportrait.engine.cpu.base_generator import CpuGenerator
from liveportrait.engine.optimise import optimised
from liveportrait.networks.interface import Networks


def optimised_for_cpu(networks: Networks) -> Networks:
    """See `optimised`: the same answers up to rounding, from fewer operations still. For PyTorch alone, in float32."""
    return optimised(networks, make_generator=CpuGenerator)
