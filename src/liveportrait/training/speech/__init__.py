"""V, which moves a face from a voice."""

from liveportrait.training.speech.run import run

__all__ = ["run"]
