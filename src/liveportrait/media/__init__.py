"""Streaming input and output of images, video and sound.

Every frame and picture is an (H,W,3) uint8 RGB array. Files are recognised by content; what cannot be read or written
raises `UserError`. Outputs appear under their final name only once they are complete.
"""

from liveportrait.media.arrays import FrameArrays, check_picture
from liveportrait.media.container import media_kind
from liveportrait.media.files import OutputGroup, check_input, check_output, output_file
from liveportrait.media.image import (
    IMAGE_OUTPUTS,
    PictureSequence,
    contact_sheet,
    load_image,
    picture_size,
    save_image,
)
from liveportrait.media.probe import VideoInfo
from liveportrait.media.reader import VideoReader
from liveportrait.media.sound.soundtrack import plan_sound
from liveportrait.media.writer import VIDEO_OUTPUTS, VideoWriter, check_alpha, encoder_for

__all__ = [
    "IMAGE_OUTPUTS",
    "VIDEO_OUTPUTS",
    "FrameArrays",
    "OutputGroup",
    "PictureSequence",
    "VideoInfo",
    "VideoReader",
    "VideoWriter",
    "check_alpha",
    "check_input",
    "check_output",
    "check_picture",
    "contact_sheet",
    "encoder_for",
    "load_image",
    "media_kind",
    "output_file",
    "picture_size",
    "plan_sound",
    "save_image",
]
