"""Networks that cost less and give the same numbers up to rounding."""

from liveportrait.engine.rewrites.networks import optimised

__all__ = ["optimised"]
