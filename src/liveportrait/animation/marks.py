"""What results are marked with: the watermark that says what was done to which source by which weights."""

from __future__ import annotations

import hashlib

from liveportrait.animation.options import PasteOptions
from liveportrait.animation.source.base import Source
from liveportrait.marking.payload import Payload, Work
from liveportrait.marking.watermark import Watermark
from liveportrait.networks.variants import Variant


def watermark_for(source: Source, variant: Variant, options: PasteOptions, work: Work) -> Watermark | None:
    """The watermark of a result; None where the options leave marks out."""
    if not options.mark:
        return None
    weights = hashlib.sha256(variant.name.encode()).digest()[0]
    return Watermark(Payload(work, int(source.sha256[:4] or "0", 16), weights))
