"""The networks of the paper (arXiv 2407.03168): tensors in, tensors out, no files and no images.

`build(BASE)` or `build(COMPACT)` makes them with random weights; `liveportrait.weights.load` fills them.
"""

from __future__ import annotations

from liveportrait.networks import base, compact
from liveportrait.networks.interface import Features, Motion, Networks, Pose, Warped
from liveportrait.networks.retargeting import EyeRetargeting, LipRetargeting, Stitching
from liveportrait.networks.variants import BASE, COMPACT, Variant

__all__ = ["BASE", "COMPACT", "Features", "Motion", "Networks", "Pose", "Variant", "Warped", "build"]


def build(variant: Variant, retargeting: bool = False) -> Networks:
    """The networks of a variant, in training mode, with untrained weights.

    Without `retargeting` the stitching, eye and lip modules are absent: nobody takes untrained ones for
    trained ones, and what is absent is not written with the weights.
    """
    match variant.sizes:
        case base.Sizes() as sizes:
            appearance, motion, warping, generator = base.build(sizes)
        case compact.Sizes() as sizes:
            appearance, motion, warping, generator = compact.build(sizes)
    networks = Networks(variant, appearance, motion, warping, generator)
    if retargeting:
        networks.stitching = Stitching(variant.retargeting.stitching)
        networks.eye_retargeting = EyeRetargeting(variant.retargeting.eye)
        networks.lip_retargeting = LipRetargeting(variant.retargeting.lip)
    return networks
