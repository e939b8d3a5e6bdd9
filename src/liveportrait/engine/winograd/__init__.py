"""What only a processor gains from: BASE's convolutions as few, large products of matrices."""

from liveportrait.engine.winograd.networks import optimised_for_cpu

__all__ = ["optimised_for_cpu"]
