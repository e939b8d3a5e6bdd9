"""Fallbacks for what a back end cannot do as requested, with a note: smaller batches, or a wider precision.

NaN and infinite numbers are reported where they arise, with the frame's number.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from liveportrait.engine.backend import Backend
from liveportrait.errors import UserError
from liveportrait.networks.interface import Features, Layers, Motion, Pose

OTHER_WEIGHTS = "choose --precision fp32, or other weights"
LEFT_OUT = "leave that frame out, or choose other options"

T = TypeVar("T", Motion, Layers, Features)


class GuardedBackend:
    """A back end that copes with too little GPU memory, and with numbers beyond the range of float16.

    If memory runs out, batches are halved from then on; frames do not depend on the rest of their batch. If a float16
    result is not finite (numbers beyond 65,504, which the published program shows as black boxes), it is computed again
    by `wider`, and so is everything after it. `notes` report both.
    """

    def __init__(self, backend: Backend, wider: Callable[[], Backend] | None = None) -> None:
        """`wider` makes the back end in float32; None if `backend` does not use float16."""
        self._backend, self._wider = backend, wider
        self._max_rows: int | None = None  # at once
        self._changing = threading.Lock()
        self._notes: dict[str, str] = {}
        self.device, self.concurrent = backend.device, backend.concurrent

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each fallback in use."""
        return tuple(self._notes.values())

    def appearance(self, images: Tensor) -> Features:
        """F."""
        return self._run(len(images), lambda backend, rows: backend.appearance(images[rows]), _joined)

    def motion(self, images: Tensor) -> Motion:
        """M."""
        return self._run(len(images), lambda backend, rows: backend.motion(images[rows]), Motion.cat)

    def render(self, features: Features, source: Pose, driving: Pose, cues: Tensor) -> Layers:
        """W, then G."""

        def run(backend: Backend, rows: slice) -> Layers:
            own = {name: value[rows] for name, value in features.items()}
            return backend.render(own, source.rows(rows), driving.rows(rows), cues[rows])

        return self._run(driving.batch, run, Layers.cat)

    def _run(self, count: int, run: Callable[[Backend, slice], T], join: Callable[[Iterable[T]], T]) -> T:
        """The results of all rows, with as many at once as are known to fit in memory."""
        parts: list[T] = []
        done = 0
        while done < count:
            size = min(self._max_rows or count, count - done)
            part = self._try_rows(lambda backend: run(backend, slice(done, done + size)), size)  # noqa: B023
            if part is not None:
                parts.append(part)
                done += size
        return parts[0] if len(parts) == 1 else join(parts)

    def _try_rows(self, run: Callable[[Backend], T], size: int) -> T | None:
        """The result for `size` rows; None if they do not fit in memory, so that fewer must be tried."""
        try:
            return self._finite(run)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        # Outside the `except` block: the error keeps alive what was computed before it.
        with self._changing:
            self._max_rows = min(self._max_rows or size, size // 2)
            self._notes["memory"] = (
                f"the device had too little memory for batches of {2 * self._max_rows} or more frames: the networks"
                f" took {self._max_rows} at a time"
            )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _finite(self, run: Callable[[Backend], T]) -> T:
        """The result, in the wider precision if numbers overflow."""
        backend = self._backend
        result = run(backend)
        if self._wider is None or is_finite(_tensors(result)):
            return result
        with self._changing:
            if self._backend is backend:
                self._backend = self._wider()
                self._notes["precision"] = (
                    "numbers overflowed in float16: the networks computed in float32 from there on;"
                    " --precision bf16 or fp32 avoids that from the start"
                )
            self._wider = None
            backend = self._backend
        return run(backend)


def _tensors(result: Motion | Layers | Features) -> Iterable[Tensor]:
    return result.values() if isinstance(result, dict) else result


def _joined(parts: Iterable[Features]) -> Features:
    several = list(parts)
    return {name: torch.cat([part[name] for part in several]) for name in several[0]}


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
