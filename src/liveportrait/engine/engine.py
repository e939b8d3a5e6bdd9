"""`Engine`: uint8 pictures in and out, whichever back end runs the networks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from liveportrait.choices import BackendName, PrecisionChoice
from liveportrait.engine.backend import Backend, make_backend
from liveportrait.engine.guard import GuardedBackend
from liveportrait.errors import UserError
from liveportrait.networks import Networks
from liveportrait.networks.compact.painter import CUES
from liveportrait.networks.interface import Features, Layers, Motion, Pose
from liveportrait.networks.renderer import compose

BATCH = 4
MAX_WORKERS = 4  # each holds the activations of a batch
CPU_BATCH_PIXELS = BATCH * 256**2  # in a batch: larger pictures would make it slower and need more memory


def pick_device(name: str = "auto") -> str:
    """A device's name in PyTorch; "auto" is CUDA if available, otherwise the CPU."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


class Engine:
    """Runs the networks of one variant in batches. Thread-safe; apart from `notes`, no state is kept between calls.

    Motions and poses are on the networks' device, going in and coming out. `threads` sets the number of PyTorch's CPU
    threads for the entire process; None leaves it alone. `backend` runs F, M, W and G in `precision`; either may be
    "auto", and the attributes with these names say what was chosen, `reason` why. Raises UserError if it cannot run.
    """

    def __init__(
        self,
        networks: Networks,
        precision: PrecisionChoice = "fp32",
        threads: int | None = None,
        backend: BackendName = "eager",
    ) -> None:
        if threads is not None:
            if threads < 1:
                raise UserError(f"cannot run on {threads} threads: give at least 1")
            torch.set_num_threads(threads)
        # The back end holds its own form of F, M, W and G; only the small networks are kept here.
        self.variant = networks.variant
        self._stitching = networks.stitching
        self._eye_retargeting, self._lip_retargeting = networks.eye_retargeting, networks.lip_retargeting
        self._expression = networks.expression
        made, choice = make_backend(backend, networks, precision, threads)

        def wider() -> Backend:
            return make_backend(choice.backend, networks, "fp32", threads)[0]

        self._backend = GuardedBackend(made, wider if choice.precision == "fp16" else None)
        self.backend, self.precision, self.reason = choice.backend, choice.precision, choice.reason
        self.threads = torch.get_num_threads()  # CPU threads in total
        # How many frames to put through the networks at once: more would be no faster, and delay an interruption.
        pixels = self.variant.output_size**2
        self.batch = BATCH if self.device.type != "cpu" else max(1, min(BATCH, CPU_BATCH_PIXELS // pixels))
        self._lock: AbstractContextManager[object] = (
            nullcontext() if self._backend.concurrent else threading.Lock()
        )

    @property
    def device(self) -> torch.device:
        """The device that the networks are on."""
        return self._backend.device

    def workers(self, batches: int) -> AbstractContextManager[Workers]:
        """A `with` block for running that many batches, with as many workers as batches, back end and CPU allow."""
        can_share = self._backend.concurrent and self.device.type == "cpu"
        return divided_threads(self.threads, batches if can_share else 1)

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each thing that was done differently than asked so far: see `GuardedBackend`."""
        return self._backend.notes

    @property
    def can_stitch(self) -> bool:
        """Whether the weights include the stitching module."""
        return self._stitching is not None

    @property
    def can_retarget_eyes(self) -> bool:
        """Whether the weights include the eye retargeting module."""
        return self._eye_retargeting is not None

    @property
    def can_retarget_lips(self) -> bool:
        """Whether the weights include the lip retargeting module."""
        return self._lip_retargeting is not None

    @property
    def can_express(self) -> bool:
        """Whether the weights include E, which adapts an expression to the source's face."""
        return self._expression is not None

    @torch.no_grad()
    def encode_appearance(self, images: NDArray[np.uint8]) -> Features:
        """F for RGB crops (B,S,S,3) uint8, S the variant's input size."""
        with self._lock:
            return self._backend.appearance(self._to_tensor(images))

    @torch.no_grad()
    def extract_motion(self, images: NDArray[np.uint8]) -> Motion:
        """M for RGB crops (B,S,S,3) uint8, S the variant's input size; float32."""
        with self._lock:
            return self._backend.motion(self._to_tensor(images))

    @torch.no_grad()
    def layers(self, features: Features, source: Pose, driving: Pose, cues: Tensor | None = None) -> Layers:
        """The layers that pictures of driving poses with batch B are composed of; arguments as for `render`."""
        return self._rendered(features, source, driving, cues)[0]

    @torch.no_grad()
    def render(
        self, features: Features, source: Pose, driving: Pose, cues: Tensor | None = None
    ) -> NDArray[np.uint8]:
        """RGB pictures (B,S,S,3) uint8, S the variant's output size, for driving poses with batch B.

        Features and source pose have batch B, or 1 for one source driven B times. cues (B,5) describe the driver's
        mouth, see `mouth_cues`; None if unknown. Values are clipped to [0, 1], scaled by 255 and truncated, as in the
        published program.
        """
        picture = compose(*self._rendered(features, source, driving, cues))
        return (picture.clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().contiguous().numpy()

    def _rendered(
        self, features: Features, source: Pose, driving: Pose, cues: Tensor | None
    ) -> tuple[Layers, Features]:
        """The layers, and the features repeated for them."""
        count = driving.batch
        repeated = {name: _repeat(value, count) for name, value in features.items()}
        if cues is None:
            cues = driving.scale.new_zeros(count, CUES)
        with self._lock:
            return self._backend.render(repeated, source.expand(count), driving, cues), repeated

    @torch.no_grad()
    def stitch(self, source: Tensor, driving: Tensor) -> Tensor:
        """Stitched driving keypoints (B,21,3); source keypoints have batch B or 1."""
        module = _present(self._stitching, "stitching")
        return module(_repeat(source, driving.shape[0]), driving)

    def stitched(self, source: Pose, driving: Pose) -> Pose:
        """Driving poses (B), stitched: keypoints are moved, and what lies outside the head is held if W supports it."""
        keypoints = self.stitch(source.keypoints, driving.keypoints)
        return driving._replace(keypoints=keypoints, pin=torch.ones_like(driving.pin))

    @torch.no_grad()
    def retarget_eyes(self, source: Tensor, ratios: Tensor) -> Tensor:
        """Offsets Δ (B,21,3) for source keypoints (B or 1,21,3) and ratios (B,3).

        A row of ratios contains the source's left eye, its right eye and the wanted opening.
        """
        module = _present(self._eye_retargeting, "eye retargeting")
        return module(_repeat(source, ratios.shape[0]), ratios)

    @torch.no_grad()
    def retarget_lips(self, source: Tensor, ratios: Tensor) -> Tensor:
        """Offsets Δ (B,21,3) for source keypoints (B or 1,21,3) and ratios (B,2): source lips, wanted."""
        module = _present(self._lip_retargeting, "lip retargeting")
        return module(_repeat(source, ratios.shape[0]), ratios)

    @torch.no_grad()
    def express(self, landmarks: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
        """E's offsets (B,21,2) for wanted scores (B,52), given a face's flat landmarks and own scores, batch 1."""
        return _present(self._expression, "expression")(landmarks, own, wanted)

    def _to_tensor(self, images: NDArray[np.uint8]) -> Tensor:
        size = self.variant.input_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (size, size, 3):
            raise ValueError(f"images are {images.dtype} {images.shape}, not uint8 (B, {size}, {size}, 3)")
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        return pixels.permute(0, 3, 1, 2).float() / 255  # channels-last in memory


def _repeat(value: Tensor, count: int) -> Tensor:
    return value.expand(count, *value.shape[1:])


def _present(module: nn.Module | None, name: str) -> nn.Module:
    if module is None:
        raise UserError(f"these weights have no {name} module")
    return module


@dataclass(frozen=True)
class Workers:
    """How many batches run at once, and on how many CPU threads each; None leaves the threads as they are.

    Two batches on one core each finish sooner than one after the other on two cores: no thread waits at the end of
    every layer, and small layers do not parallelise well.
    """

    count: int = 1
    threads: int | None = None

    def enter(self) -> None:
        """A worker thread calls this before it runs networks: PyTorch's thread count is per calling thread."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)


@contextmanager
def divided_threads(cores: int, batches: int) -> Iterator[Workers]:
    """The workers for a number of batches on a number of CPU threads, for the duration of a `with` block.

    PyTorch applies the last count set to threads that start later, so it is reset to `cores` at the end.
    """
    count = max(1, min(cores, batches, MAX_WORKERS))
    try:
        yield Workers(count, cores // count) if count > 1 else Workers()
    finally:
        if count > 1:
            torch.set_num_threads(cores)
