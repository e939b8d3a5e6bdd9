"""Parts of the head's rigid motion that stay the source's own. Pure functions, batched; the source has batch N or 1."""

from __future__ import annotations

import torch
from torch import Tensor

from liveportrait.networks.interface import Motion

# The base of the neck in the source's crop, relative to the middle of the head (x right, y down, z away; the crop
# reaches from -1 to 1). The face's box is about 0.87 high there: this is below the chin and behind it.
NECK = (0.0, 0.75, 0.25)


def lock_head(motion: Motion, source: Motion) -> Motion:
    """The motion with the source's own rotation, position and scale: the expression alone changes."""
    count = motion.scale.shape[0]
    return motion._replace(
        rotation=_repeat(source.rotation, count),
        translation=_repeat(source.translation, count),
        scale=_repeat(source.scale, count),
    )


def lock_scale(motion: Motion, source: Motion) -> Motion:
    """The motion with the source's own scale: the head comes no nearer."""
    return motion._replace(scale=_repeat(source.scale, motion.scale.shape[0]))


def lock_shoulders(motion: Motion, source: Motion) -> Motion:
    """The motion whose head turns about the base of the neck, which stays where the source has it.

    Rotation and scale are kept; the position follows from them: the point that the source has at the neck comes
    to lie there again.
    """
    neck = torch.tensor(NECK).to(motion.scale)
    own = (neck / source.scale)[:, None] @ source.rotation.transpose(1, 2)  # (N,1,3) in the head's own frame
    turned = motion.scale * (own @ motion.rotation)[:, 0]
    translation = source.translation + (neck - turned)
    return motion._replace(translation=translation * translation.new_tensor([1.0, 1.0, 0.0]))


def _repeat(value: Tensor, count: int) -> Tensor:
    return value.expand(count, *value.shape[1:])
