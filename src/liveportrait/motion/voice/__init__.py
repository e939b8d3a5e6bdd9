"""Speech to motion with V, offline or as a stream, performed by the mean face."""

from liveportrait.motion.voice.performance import MeanFaceMotion, Performance, animate_mean_face
from liveportrait.motion.voice.voice import Voice, VoiceStream, style_of

__all__ = ["MeanFaceMotion", "Performance", "Voice", "VoiceStream", "animate_mean_face", "style_of"]
