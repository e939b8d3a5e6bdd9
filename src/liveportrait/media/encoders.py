"""How videos are encoded: H.264, VP9 in .webm, ProRes on request, and which of them hold transparency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from av.video.reformatter import Interpolation

from liveportrait.choices import VideoCodec
from liveportrait.errors import UserError
from liveportrait.media.colour import SCALING

VIDEO_OUTPUTS = (".mp4", ".mov", ".mkv", ".webm")

BT709 = 1  # AVCOL_SPC_BT709
TO_YUV = SCALING | Interpolation.FULL_CHR_H_INP
# The index goes to the front, so that a browser can start to play before it has the whole file.
CONTAINER_OPTIONS = {".mp4": {"movflags": "+faststart"}, ".mov": {"movflags": "+faststart"}}


@dataclass(frozen=True)
class Encoder:
    """One of FFmpeg's encoders with its settings."""

    name: str
    pixels: str  # format of the frames it takes
    options: Mapping[str, str] = field(default_factory=dict)
    alpha: bool = False  # whether frames are RGBA


_X264 = Encoder("libx264", "yuv420p", {"crf": "18", "preset": "medium"})
_VP9_OPTIONS = {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}
_VP9 = Encoder("libvpx-vp9", "yuv420p", _VP9_OPTIONS)
# Reference frames that are never shown are not allowed beside transparency.
_VP9_ALPHA = Encoder("libvpx-vp9", "yuva420p", _VP9_OPTIONS | {"auto-alt-ref": "0"}, alpha=True)
_PRORES = Encoder("prores_ks", "yuv422p10le", {"profile": "hq", "vendor": "apl0"})
_PRORES_ALPHA = Encoder("prores_ks", "yuva444p10le", {"profile": "4444", "vendor": "apl0"}, alpha=True)


def encoder_for(path: Path, codec: VideoCodec = "auto", alpha: bool = False) -> Encoder:
    """The encoder for a file: "auto" is H.264 (CRF 18), VP9 in .webm, ProRes 4444 in a .mov with transparency.

    ProRes is 422 HQ, with `alpha` 4444, 10 bits. Raises UserError where the kind of file does not hold it.
    """
    suffix = path.suffix.lower()
    if codec == "prores" and suffix not in (".mov", ".mkv"):
        raise UserError(f"{path} cannot hold ProRes: name it .mov")
    if not alpha:
        return _PRORES if codec == "prores" else _VP9 if suffix == ".webm" else _X264
    check_alpha(path)
    return _VP9_ALPHA if suffix == ".webm" else _PRORES_ALPHA


def check_alpha(path: Path) -> None:
    """Raise UserError where a kind of file, told by its suffix, holds no transparency."""
    if path.suffix.lower() not in (".mov", ".webm", ".png", ".webp", ""):
        raise UserError(
            f"{path} cannot hold transparency: use .mov, .webm, .png or a folder of PNG (no suffix)"
        )
