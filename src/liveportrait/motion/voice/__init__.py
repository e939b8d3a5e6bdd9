"""V at work: a voice becomes motion, whole or piece by piece, and the mean face performs it."""

from liveportrait.motion.voice.performance import Acted, Performance, act
from liveportrait.motion.voice.voice import Voice, VoiceStream, style_of

__all__ = ["Acted", "Performance", "Voice", "VoiceStream", "act", "style_of"]
