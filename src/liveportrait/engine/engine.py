"""`Engine`: pictures in as uint8 arrays, pictures out as uint8 arrays, whatever runs the networks."""

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
MOST_WORKERS = 4  # each holds the activations of a batch
PIXELS_ON_A_CPU = BATCH * 256**2  # of a batch: larger pictures take longer in one, and more memory


def pick_device(name: str = "auto") -> str:
    """A device's name as PyTorch spells it; "auto" is CUDA where there is one, else the CPU."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


class Engine:
    """Runs the networks of one variant, batched. Calls may come from any thread; of one call the next knows no more
    than what `notes` tell.

    Motions and poses go in and come out on the networks' device. `threads` sets PyTorch's CPU threads for
    the whole process; None leaves them alone. `backend` runs F, M, W and G, in `precision`; either may be "auto", and
    the attributes of these names tell what was chosen, `reason` why. Raises UserError where it cannot run.
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
        # The back end has F, M, W and G in a form of its own; only the small networks are kept here.
        self.variant = networks.variant
        self._stitching = networks.stitching
        self._eye_retargeting, self._lip_retargeting = networks.eye_retargeting, networks.lip_retargeting
        self._expression = networks.expression
        made, choice = make_backend(backend, networks, precision, threads)

        def wider() -> Backend:
            return make_backend(choice.backend, networks, "fp32", threads)[0]

        self._backend = GuardedBackend(made, wider if choice.precision == "fp16" else None)
        self.backend, self.precision, self.reason = choice.backend, choice.precision, choice.reason
        self.threads = torch.get_num_threads()  # of the CPU, in all
        # How many frames should go through the networks together: more are no faster, and cannot be interrupted.
        pixels = self.variant.output_size**2
        self.batch = BATCH if self.device.type != "cpu" else max(1, min(BATCH, PIXELS_ON_A_CPU // pixels))
        self._turn: AbstractContextManager[object] = (
            nullcontext() if self._backend.concurrent else threading.Lock()
        )

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self._backend.device

    def workers(self, batches: int) -> AbstractContextManager[Workers]:
        """A block in which so many batches are run, by as many workers as they, the back end and the CPU allow."""
        runs_here = self._backend.concurrent and self.device.type == "cpu"
        return divided(self.threads, batches if runs_here else 1)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done otherwise than asked so far, a sentence each: see `GuardedBackend`."""
        return self._backend.notes

    @property
    def can_stitch(self) -> bool:
        """Whether the weights bring the stitching module."""
        return self._stitching is not None

    @property
    def can_retarget_eyes(self) -> bool:
        """Whether the weights bring the module for eyes."""
        return self._eye_retargeting is not None

    @property
    def can_retarget_lips(self) -> bool:
        """Whether the weights bring the module for lips."""
        return self._lip_retargeting is not None

    @property
    def can_express(self) -> bool:
        """Whether the weights bring E, which makes an expression the source's own."""
        return self._expression is not None

    @torch.no_grad()
    def encode_appearance(self, images: NDArray[np.uint8]) -> Features:
        """F of RGB crops (B,S,S,3) uint8, S the variant's input size."""
        with self._turn:
            return self._backend.appearance(self._to_tensor(images))

    @torch.no_grad()
    def extract_motion(self, images: NDArray[np.uint8]) -> Motion:
        """M of RGB crops (B,S,S,3) uint8, S the variant's input size; float32."""
        with self._turn:
            return self._backend.motion(self._to_tensor(images))

    @torch.no_grad()
    def layers(self, features: Features, source: Pose, driving: Pose, cues: Tensor | None = None) -> Layers:
        """What pictures of driving poses with batch B are composed of; the arguments are those of `render`."""
        return self._rendered(features, source, driving, cues)[0]

    @torch.no_grad()
    def render(
        self, features: Features, source: Pose, driving: Pose, cues: Tensor | None = None
    ) -> NDArray[np.uint8]:
        """RGB pictures (B,S,S,3) uint8, S the variant's output size, of driving poses with batch B.

        Features and source pose have batch B, or 1 for one source driven B times. cues (B,5): what the driver's mouth
        shows, see `mouth_cues`, where somebody looked. Values are clipped to
        [0, 1], scaled by 255 and truncated, as the published program does.
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
        with self._turn:
            return self._backend.render(repeated, source.expand(count), driving, cues), repeated

    @torch.no_grad()
    def stitch(self, source: Tensor, driving: Tensor) -> Tensor:
        """Stitched driving keypoints (B,21,3); source keypoints have batch B or 1."""
        module = _present(self._stitching, "stitching")
        return module(_repeat(source, driving.shape[0]), driving)

    def stitched(self, source: Pose, driving: Pose) -> Pose:
        """Driving poses (B), stitched: keypoints moved, and what lies outside the head held where W can do so."""
        keypoints = self.stitch(source.keypoints, driving.keypoints)
        return driving._replace(keypoints=keypoints, pin=torch.ones_like(driving.pin))

    @torch.no_grad()
    def retarget_eyes(self, source: Tensor, ratios: Tensor) -> Tensor:
        """Offsets Δ (B,21,3) for source keypoints (B or 1,21,3) and ratios (B,3).

        A row of ratios: the source's left eye, its right eye, the wanted opening.
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
        """E's offsets (B,21,2) of a face with flat landmarks and scores of its own, batch 1, for scores (B,52)."""
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
        raise UserError(f"these weights bring no {name} module")
    return module


@dataclass(frozen=True)
class Workers:
    """So many batches at once, on so many CPU threads each; None leaves the threads as they are.

    Two batches on one core each are done sooner than the same two in turn on two cores: nothing waits at the end of
    every layer, and small layers do not divide well.
    """

    count: int = 1
    threads: int | None = None

    def enter(self) -> None:
        """To be called by a thread before it runs networks. PyTorch's threads are counted for each caller."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)


@contextmanager
def divided(cores: int, batches: int) -> Iterator[Workers]:
    """The workers for a number of batches on a number of CPU threads; for the length of a block.

    PyTorch keeps the last count for threads that are yet to start: afterwards it is `cores` again.
    """
    count = max(1, min(cores, batches, MOST_WORKERS))
    try:
        yield Workers(count, cores // count) if count > 1 else Workers()
    finally:
        if count > 1:
            torch.set_num_threads(cores)
