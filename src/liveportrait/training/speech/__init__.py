"""V, which moves a face by a voice."""

from liveportrait.training.speech.run import run

__all__ = ["run"]
