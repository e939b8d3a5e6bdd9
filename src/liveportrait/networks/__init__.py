"""The networks of the paper (arXiv 2407.03168): tensors in, tensors out, no files and no images.

`build(BASE)` or `build(COMPACT)` creates them with random weights; `liveportrait.weights.load` loads trained ones.
"""

from liveportrait.networks.interface import Features, Layers, Motion, Pose, Warped
from liveportrait.networks.variants import BASE, COMPACT, Networks, Variant, build

__all__ = [
    "BASE",
    "COMPACT",
    "Features",
    "Layers",
    "Motion",
    "Networks",
    "Pose",
    "Variant",
    "Warped",
    "build",
]
