"""Numbers that are none (NaN, infinite) are an error where they arise, with the frame's number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from liveportrait.errors import UserError
from liveportrait.networks.interface import Motion

OTHER_WEIGHTS = "choose --precision fp32, or other weights"
LEFT_OUT = "leave that frame out, or choose other options"


def is_finite(several: Iterable[Tensor]) -> bool:
    """Whether no number is NaN or infinite. A sum is finite only then, and takes one pass over the memory."""
    return all(bool(tensor.sum().isfinite()) for tensor in several)


def check_finite(what: str, frames: Sequence[int], several: Iterable[Tensor], remedy: str) -> None:
    """Raise `UserError` where a row of tensors (B,...), or (1,...) for all frames, is not finite.

    `what` the numbers are, `frames` the numbers of the B frames, from 0.
    """
    for tensor in several:
        if not is_finite([tensor]):
            row = int((~tensor.flatten(1).isfinite().all(1)).nonzero()[0])
            raise UserError(f"frame {frames[row]}: {what} holds numbers that are not finite: {remedy}")


def check_motion(name: str, frames: Sequence[int], motion: Motion) -> None:
    """Raise `UserError` where the motion of a driver of that name is not finite; x_c may be unknown as a whole."""
    known = motion if not bool(motion.canonical.isnan().all()) else motion._replace(canonical=motion.scale)
    check_finite(f"the motion of {name}", frames, known, LEFT_OUT)
