"""Options of the preparation; docs/training/data.md gives the reason of each threshold."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from liveportrait.errors import UserError

Domain = Literal["photo", "generated", "stylized", "animal"]


@dataclass(frozen=True)
class PrepareOptions:
    """Sizes, rates and thresholds of data preparation."""

    domain: Domain = "photo"
    """what the inputs show; animal keeps the central square of pictures, without labels"""
    fps: int = 25
    """frames per second of the clips"""
    min_fps: float = 18.0
    """minimum frame rate of a video: below it, resampling would repeat too many frames"""
    min_seconds: float = 2.0
    """minimum duration of a clip, seconds"""
    max_seconds: float = 30.0
    """maximum duration of a clip, seconds; longer ones are split"""
    min_face: int = 90
    """minimum height of a face's landmark box, px of the input"""
    window: float = 2.25
    """side of the crop window, relative to the longer side of the landmark box"""
    tightest_window: float = 1.42
    """minimum side of the window near the edge of the input, in the same unit"""
    identity_jump: float = 0.6
    """distance between face embeddings of a track from which they count as different people"""
    same_identity: float = 0.5
    """mean distance between face embeddings up to which clips count as one identity (average linkage)"""
    min_sharpness: float = 0.02
    """minimum variance of the Laplacian over the variance of brightness, of the face at 112 px"""
    darkest: float = 40.0
    """minimum mean brightness of a face, of 255"""
    brightest: float = 215.0
    """maximum mean brightness of a face, of 255"""
    min_contrast: float = 14.0
    """minimum standard deviation of a face's brightness, of 255"""
    min_presence: float = 0.75
    """minimum mean score of the landmark network, which hands or hair in front of the face lower"""
    max_jitter: float = 0.03
    """maximum median acceleration of the rigid landmarks, in face sizes per frame squared"""
    min_motion: float = 0.003
    """minimum deviation of the face's shape within a clip, in face sizes: below it the clip is a still"""
    max_repeated: float = 0.6
    """maximum share of a clip's frames that repeat the previous one"""
    min_quality: float = 0.3
    """minimum quality score, 0 to 1"""
    duplicate_bits: float = 16.0
    """mean distance of difference hashes, in bits of 256, up to which two clips count as duplicates"""
    shard_megabytes: int = 256
    """size at which a new shard is started, MB"""
    crf: int = 21
    """H.264 quality of the clips, 0 to 51; lower is better and larger"""

    def __post_init__(self) -> None:
        """Raise `UserError` for values out of range."""
        if self.domain not in get_args(Domain):
            raise UserError(f"domain is {self.domain!r}: choose one of {', '.join(get_args(Domain))}")
        for name, low, high in (
            ("fps", 1, 120),
            ("min_fps", 0, 240),
            ("min_seconds", 0.1, 3600),
            ("max_seconds", self.min_seconds, 3600),
            ("min_face", 16, 4096),
            ("window", 1.2, 5),
            ("tightest_window", 1.05, self.window),
            ("identity_jump", 0, 2),
            ("same_identity", 0, 2),
            ("min_sharpness", 0, 100),
            ("darkest", 0, 255),
            ("brightest", self.darkest, 255),
            ("min_contrast", 0, 127),
            ("min_presence", 0, 1),
            ("max_jitter", 0, 10),
            ("min_motion", 0, 1),
            ("max_repeated", 0, 1),
            ("min_quality", 0, 1),
            ("duplicate_bits", 0, 256),
            ("shard_megabytes", 1, 100_000),
            ("crf", 0, 51),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                spelled = name.replace("_", "-")
                raise UserError(f"{spelled} is {value}: choose a number from {low:g} to {high:g}")

    @property
    def min_frames(self) -> int:
        """Frames of the shortest clip."""
        return math.ceil(self.min_seconds * self.fps)

    @property
    def max_frames(self) -> int:
        """Frames of the longest clip."""
        return max(int(self.max_seconds * self.fps), 1)

    def differences(self, stored: dict[str, object]) -> list[str]:
        """One phrase for each option that is not as `stored` has it."""
        return [
            f"{name.replace('_', '-')} was {stored.get(name)}, now {value}"
            for name, value in asdict(self).items()
            if stored.get(name) != value
        ]
