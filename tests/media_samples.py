"""Small videos generated for the tests of `liveportrait.media`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from liveportrait.media import VideoReader

COLOURSPACE_TAGS = {Colorspace.ITU709: 1, Colorspace.ITU601: 6}


def quadrants(height: int = 64, width: int = 96, step: int = 0) -> np.ndarray:
    """Red, green, blue and grey quarters, clockwise from the top left; `step` makes the grey one brighter."""
    image = np.zeros((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    image[:top, :left] = (200, 30, 20)
    image[:top, left:] = (20, 180, 40)
    image[top:, left:] = (30, 50, 220)
    image[top:, :left] = 60 + step
    return image


def corners(image: np.ndarray) -> np.ndarray:
    """Colours (4,3) at the centres of the quarters, clockwise from the top left."""
    height, width = image.shape[:2]
    y, x = height // 4, width // 4
    return image[[y, y, -y, -y], [x, -x, -x, x]].astype(int)


def grey_levels(reader: VideoReader) -> list[int]:
    """The level of the grey quarter of each frame."""
    return [int(corners(frame)[3].mean().round()) for frame in reader]


def tone(start: int, samples: int, rate: int = 48000) -> av.AudioFrame:
    """Stereo samples of a 440 Hz tone, starting at sample number `start`."""
    wave = np.sin(2 * np.pi * 440 * (start + np.arange(samples)) / rate) * 8000
    frame = av.AudioFrame.from_ndarray(wave.astype(np.int16).repeat(2)[None], format="s16", layout="stereo")
    frame.sample_rate = rate
    frame.pts = start
    return frame


def make_video(
    path: Path,
    frames: int | Sequence[np.ndarray] = 30,
    *,
    rate: Fraction | int = 30,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    audio: str | None = None,
    audio_seconds: float | None = None,
    times: Sequence[Fraction] | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    aspect: Fraction | None = None,
    colours: tuple[Colorspace, ColorRange] | None = None,
    tagged: bool = True,
) -> Path:
    """Write a video; the grey quarter of frame k has level 60 + 4 k."""
    rate = Fraction(rate)
    if isinstance(frames, int):
        frames = [quadrants(step=4 * (k % 45)) for k in range(frames)]
    height, width = frames[0].shape[:2] if len(frames) else (64, 96)
    with av.open(str(path), "w", options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        if aspect:
            stream.sample_aspect_ratio = aspect
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 90000)
        space, span = colours or (Colorspace.ITU601, ColorRange.MPEG)
        if colours and tagged:
            stream.codec_context.colorspace = COLOURSPACE_TAGS[space]
            stream.codec_context.color_range = span
        sound = container.add_stream(audio, rate=48000) if audio else None
        for index, image in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            if pixels.startswith("yuv"):
                picture = picture.reformat(format=pixels, dst_colorspace=space, dst_color_range=span)
            picture.pts = index if times is None else int(times[index] * 90000)
            picture.time_base = 1 / rate if times is None else Fraction(1, 90000)
            container.mux(stream.encode(picture))
        if len(frames):
            container.mux(stream.encode(None))
        if sound is not None:
            total = round((audio_seconds or len(frames) / rate) * 48000)
            for start in range(0, total, 1600):
                container.mux(sound.encode(tone(start, min(1600, total - start))))
            container.mux(sound.encode(None))
    return path


def packets_of(path: Path, kind: str) -> list[bytes]:
    """The contents of the packets of the first stream of type `kind`, "audio" or "video"."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [bytes(packet) for packet in container.demux(stream) if packet.size]
