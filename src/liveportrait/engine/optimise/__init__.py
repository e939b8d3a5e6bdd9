"""Networks that cost less and give the same numbers up to rounding."""

from liveportrait.engine.optimise.networks import optimised

__all__ = ["optimised"]
