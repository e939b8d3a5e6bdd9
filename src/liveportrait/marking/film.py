"""Finding the watermark of a file: in a picture, or in a film, stretch by stretch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from liveportrait.marking.payload import Payload
from liveportrait.marking.reading import normalised, read_normalised, read_picture
from liveportrait.media import VideoReader, load_image, media_kind
from liveportrait.types import Array

GROUP = 12  # frames that are read together
MAX_GROUPS = 24  # of a film that are examined, evenly spaced
MAX_SEARCHES = 6  # groups of a film that are searched at all scales, which is slow


class Stretch(NamedTuple):
    """Consecutive frames of a film that carry the same watermark, as far as examined; for a picture, frame 0."""

    first: int
    last: int
    payload: Payload | None  # None if too much of it was lost to be read


def watermarks(path: Path) -> tuple[Stretch, ...]:
    """The watermarks in a picture or film, in order. Raises `UserError` if the file cannot be read.

    In a long film only some groups of frames, evenly spaced, are examined: apart from decoding, the time is bounded.
    """
    if media_kind(path) == "image":
        reading = read_picture(load_image(path))
        return (Stretch(0, 0, reading.payload),) if reading else ()
    found: list[Stretch] = []
    scale, searches = None, 0
    is_open = False  # whether the last group carried the last watermark
    for first, last, total in _groups(path):
        reading = None if scale is None else read_normalised(total, [scale])
        if reading is None and searches < MAX_SEARCHES:
            searches += 1
            reading = read_normalised(total)
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
    """For each group to examine, the numbers of its first and last frame, and the sum of its normalised frames."""
    with VideoReader(path) as reader:
        count = -(-max(reader.info.frame_count, 1) // GROUP)
        every = -(-count // MAX_GROUPS)
        frames, number = iter(reader), 0
        while group := list(islice(frames, GROUP)):
            if number // GROUP % every == 0:
                total = normalised(group[0])
                for frame in group[1:]:
                    total = total + normalised(frame)
                yield number, number + len(group) - 1, total
            number += len(group)
