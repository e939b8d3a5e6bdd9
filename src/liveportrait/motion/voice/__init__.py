"""V at work: a voice becomes motion, whole or piece by piece."""

from liveportrait.motion.voice.voice import Voice, VoiceStream

__all__ = ["Voice", "VoiceStream"]
