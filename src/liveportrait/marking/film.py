"""The watermark of a file: of a picture, or of a film, stretch by stretch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from liveportrait.marking.payload import Payload
from liveportrait.marking.reading import levelled, read_levelled, read_picture
from liveportrait.media import VideoReader, load_image, media_kind
from liveportrait.types import Array

GROUP = 12  # frames that are read together
MOST_GROUPS = 24  # of a film that are looked at, evenly spread
MOST_SEARCHES = 6  # groups of a film that are searched at all scales, which takes long


class Stretch(NamedTuple):
    """Frames of a film that carry one watermark, as far as they were looked at; of a picture, frame 0."""

    first: int
    last: int
    payload: Payload | None  # None where too much of it was lost to be read


def watermarks(path: Path) -> tuple[Stretch, ...]:
    """The watermarks in a picture or film, in order. Raises `UserError` where it cannot be read.

    Of a long film, groups of frames all along it are looked at, so that time is bounded beside that of decoding.
    """
    if media_kind(path) == "image":
        reading = read_picture(load_image(path))
        return (Stretch(0, 0, reading.payload),) if reading else ()
    found: list[Stretch] = []
    scale, searches = None, 0
    is_open = False  # whether the last group carried the last watermark
    for first, last, level in _groups(path):
        reading = None if scale is None else read_levelled(level, [scale])
        if reading is None and searches < MOST_SEARCHES:
            searches += 1
            reading = read_levelled(level)
        if reading is None:
            is_open = False
            continue
        scale = reading.scale
        if is_open and found[-1].payload == reading.payload:
            found[-1] = found[-1]._replace(last=last)
        else:
            found.append(Stretch(first, last, reading.payload))
        is_open = True
    return tuple(found)


def _groups(path: Path) -> Iterator[tuple[int, int, Array]]:
    """Numbers of the first and last frame of some groups, and their sum, levelled."""
    with VideoReader(path) as reader:
        count = -(-max(reader.info.frame_count, 1) // GROUP)
        every = -(-count // MOST_GROUPS)
        frames, number = iter(reader), 0
        while group := list(islice(frames, GROUP)):
            if number // GROUP % every == 0:
                level = levelled(group[0])
                for frame in group[1:]:
                    level = level + levelled(frame)
                yield number, number + len(group) - 1, level
            number += len(group)
