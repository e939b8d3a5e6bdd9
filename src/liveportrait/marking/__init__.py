"""What a result says of itself: a watermark in the generated pixels, content credentials in the file."""

from liveportrait.marking.payload import Payload
from liveportrait.marking.reading import Reading, read_picture, read_pictures
from liveportrait.marking.watermark import Watermark

__all__ = ["Payload", "Reading", "Watermark", "read_picture", "read_pictures"]
