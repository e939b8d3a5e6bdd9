"""One video: a pass that follows faces and decides, and a pass that cuts out what was decided on."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liveportrait.data.preparation.clips import TrackDivider
from liveportrait.data.preparation.duplicates import HASHES_A_SECOND, aligned_face, difference_hash
from liveportrait.data.preparation.encoding import ClipEncoder, cut_out, npz
from liveportrait.data.preparation.labels import stored_landmarks
from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.parts import Part, SampleRecord
from liveportrait.data.preparation.records import Clip, Dropped
from liveportrait.data.preparation.tracking import FaceFollower, at_rate
from liveportrait.face import FaceAnalyzer
from liveportrait.media import VideoInfo, VideoReader

LEAST_GAP = 1.0  # seconds without a face that are worth a line in the report


def prepare_video(
    path: Path, key: str, analyzer: FaceAnalyzer, options: PrepareOptions
) -> tuple[Part, dict[str, bytes]]:
    """Samples of a video, and their files (mp4 and npz) by name. Raises UserError where it cannot be read."""
    with VideoReader(path) as reader:
        info = reader.info
        if options.domain == "animal":
            return _none(info, "animal", "animals are taken from pictures alone")
        if info.fps < options.min_fps:
            return _none(info, "low frame rate", f"{float(info.fps):.1f} frames/s")
        divider = TrackDivider((info.width, info.height), analyzer, options)
        follower = FaceFollower(analyzer, options)
        spans = []
        for track in follower.follow(at_rate(reader, info.fps, options.fps)):
            spans.append((track.start, track.start + len(track.faces)))
            divider.add(track)
        dropped = [*divider.dropped, *_without_face(follower, spans, options.fps)]
        clips = sorted(divider.clips, key=lambda clip: (clip.start, clip.window))
        samples, members = _cut(reader, clips, key, options)
    seconds = follower.frames / options.fps
    return Part("video", seconds, tuple(samples), tuple(joined(dropped, 1 / options.fps))), members


def joined(dropped: Iterable[Dropped], gap: float) -> list[Dropped]:
    """Pieces in order of time; those of one reason that lie at most `gap` seconds apart become one."""
    found: list[Dropped] = []
    last: dict[str, int] = {}  # of each reason, its latest piece
    for piece in sorted(dropped, key=lambda part: (part.start_s or 0.0, part.end_s or 0.0, part.reason)):
        before = found[last[piece.reason]] if piece.reason in last else None
        end = None if before is None else before.end_s
        if before and end is not None and piece.start_s is not None and piece.start_s <= end + gap + 1e-6:
            detail = f"{before.detail.removesuffix(' ...')} ..."
            found[last[piece.reason]] = replace(before, end_s=max(end, piece.end_s or end), detail=detail)
        else:
            last[piece.reason] = len(found)
            found.append(piece)
    return found


def _none(info: VideoInfo, reason: str, detail: str) -> tuple[Part, dict[str, bytes]]:
    return Part("video", info.duration_s, (), (Dropped(reason, detail),)), {}


def _without_face(follower: FaceFollower, spans: Iterable[tuple[int, int]], fps: int) -> list[Dropped]:
    """Stretches of at least a second in which no face was followed."""
    covered = np.zeros(follower.frames, bool)
    for start, end in spans:
        covered[start:end] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[True], covered, [True]]).astype(np.int8)))
    found = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if end - start >= LEAST_GAP * fps:
            small = any(start <= frame < end for frame in follower.small)
            reason = ("small face", "too small to follow") if small else ("no face", "none is found")
            found.append(Dropped(*reason, round(start / fps, 3), round(end / fps, 3)))
    return found


def _cut(
    reader: VideoReader, clips: list[Clip], key: str, options: PrepareOptions
) -> tuple[list[SampleRecord], dict[str, bytes]]:
    """The clips encoded, in order of their beginnings."""
    hashes: list[list[NDArray[np.uint8]]] = [[] for _ in clips]
    videos: dict[int, bytes] = {}
    hash_every = max(options.fps // HASHES_A_SECOND, 1)
    needed = max((clip.start + clip.frames for clip in clips), default=0)
    frames = islice(at_rate(reader, reader.info.fps, options.fps), needed)
    with ExitStack() as stack:
        encoders: dict[int, ClipEncoder] = {}
        for number, frame in enumerate(frames):
            for index, clip in enumerate(clips):
                if clip.start == number:
                    encoders[index] = stack.enter_context(ClipEncoder(options.fps, options.crf))
                if not clip.start <= number < clip.start + clip.frames:
                    continue
                crop = cut_out(frame, clip.window)
                if (number - clip.start) % hash_every == 0:
                    points = stored_landmarks(clip.labels)[number - clip.start]
                    hashes[index].append(difference_hash(aligned_face(crop, points)))
                encoders[index].add(crop)
                if encoders[index].frames == clip.frames:
                    videos[index] = encoders.pop(index).finish()
    samples, members = [], {}
    for index, clip in enumerate(clips):
        name = f"{key}-{index:03d}"
        members[f"{name}.mp4"] = videos[index]
        members[f"{name}.npz"] = npz(clip.labels)
        score = round(clip.quality.score, 4)
        about = _about(clip, reader.info, options)
        samples.append(
            SampleRecord(name, clip.frames, True, score, clip.embedding, np.stack(hashes[index]), about)
        )
    return samples, members


def _about(clip: Clip, info: VideoInfo, options: PrepareOptions) -> dict[str, Any]:
    return {
        "domain": options.domain,
        "fps": options.fps,
        "frames": clip.frames,
        "src_size": [info.width, info.height],
        "src_fps": round(float(info.fps), 4),
        "src_start_s": round(clip.start / options.fps, 3),
        "crop_xys": list(clip.window),
        "quality": clip.quality.to_json(),
    }
