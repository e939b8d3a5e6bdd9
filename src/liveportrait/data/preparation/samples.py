"""The samples of one input: for a picture one per face, for a video its clips.

A video is read twice: the first pass tracks faces and selects clips, the second cuts them out. Its sound is kept if the
lips follow it. For a picture of an animal the central square is taken, without labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liveportrait.data.preparation.clips import ClipWindow, PreparedClip, TrackDivider, boxes_of, fit_window
from liveportrait.data.preparation.labels import make_labels, single, stored_landmarks
from liveportrait.data.preparation.matches import HASHES_PER_SECOND, aligned_face, difference_hash
from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.parts import ClipEncoder, Dropped, Part, SampleRecord, jpeg, npz
from liveportrait.data.preparation.quality import (
    Reason,
    appearance_reason,
    exposure_reason,
    measure_face,
    measure_region,
    picture_quality,
    quality,
    quality_reason,
)
from liveportrait.data.preparation.sound import aligned_sounds
from liveportrait.data.preparation.tracks import DETECTOR_SHARE, TrackCollector, at_rate
from liveportrait.data.speech import FRAMES_PER_SECOND
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.media import VideoInfo, VideoReader, load_image
from liveportrait.types import Image


def prepare_picture(
    path: Path, key: str, analyzer: FaceAnalyzer, options: PrepareOptions
) -> tuple[Part, dict[str, bytes]]:
    """Samples of a picture, and their files (jpg and npz) by name. Raises UserError if it cannot be read."""
    image = load_image(path)
    found = [_animal(image, options)] if options.domain == "animal" else _people(image, analyzer, options)
    samples, members = [], dict[str, bytes]()
    for index, clip in enumerate(clip for clip in found if isinstance(clip, PreparedClip)):
        name, crop = f"{key}-{index:03d}", clip.window.cut_out(image)
        hashed = crop
        members[f"{name}.jpg"] = jpeg(crop)
        if clip.labels:
            hashed = aligned_face(crop, stored_landmarks(clip.labels)[0])
            members[f"{name}.npz"] = npz(single(clip.labels))
        about = _about_picture(clip, image, options)
        score = round(clip.quality.score, 4)
        samples.append(
            SampleRecord(name, 1, False, score, clip.embedding, difference_hash(hashed)[None], about)
        )
    dropped = tuple(Dropped(*reason) for reason in found if not isinstance(reason, PreparedClip))
    return Part("image", 0.0, tuple(samples), dropped), members


def _people(image: Image, analyzer: FaceAnalyzer, options: PrepareOptions) -> list[PreparedClip | Reason]:
    """A one-frame clip for each face, or the reason to drop it; largest face first."""
    faces = analyzer.detect(image, options.min_face * DETECTOR_SHARE)
    return [_person(image, face, analyzer, options) for face in faces] or [("no face", "none is found")]


def _person(
    image: Image, face: Face, analyzer: FaceAnalyzer, options: PrepareOptions
) -> PreparedClip | Reason:
    measures = measure_face(image, face)
    height = np.array([face.box[3] - face.box[1]], np.float32)
    score = np.array([face.score], np.float32)
    found = quality([measures], height, score, jitter=0.0)
    landmarks = face.landmarks[None]
    reason = appearance_reason(measures.sharpness, height, score, options) or exposure_reason(
        measures, options
    )
    if reason:
        return reason
    window = fit_window(boxes_of(landmarks), (image.shape[1], image.shape[0]), options)
    if window is None:
        return "no window", "the picture's edge is too near the face"
    if reason := quality_reason(found, options):
        return reason
    labels = make_labels(window.to_crop(landmarks), analyzer)
    return PreparedClip(0, window, labels, found, analyzer.identity(image, face.landmarks), frames=1)


def _animal(image: Image, options: PrepareOptions) -> PreparedClip | Reason:
    """The central square, since there is no landmark network for animals here."""
    height, width = image.shape[:2]
    side = min(height, width)
    window = ClipWindow((width - side) // 2, (height - side) // 2, side)
    measures = measure_region(image, (window.x, window.y, window.x + side, window.y + side))
    if side < options.min_face:
        return "small picture", f"{side} px"
    found = picture_quality(measures, side)
    reason = exposure_reason(measures, options) or quality_reason(found, options)
    return reason or PreparedClip(0, window, {}, found, None, frames=1)


def _about_picture(clip: PreparedClip, image: Image, options: PrepareOptions) -> dict[str, Any]:
    return {
        "domain": options.domain,
        "orig_size": [image.shape[1], image.shape[0]],
        "crop_xys": list(clip.window),
        "quality": clip.quality.to_json(),
    }


MIN_GAP = 1.0  # seconds without a face that are worth a line in the report


def prepare_video(
    path: Path, key: str, analyzer: FaceAnalyzer, options: PrepareOptions
) -> tuple[Part, dict[str, bytes]]:
    """Samples of a video, and their files (mp4 and npz) by name. Raises UserError if it cannot be read."""
    with VideoReader(path) as reader:
        info = reader.info
        if options.domain == "animal":
            return _no_samples(info, "animal", "animals are taken from pictures only")
        if info.fps < options.min_fps:
            return _no_samples(info, "low frame rate", f"{float(info.fps):.1f} frames/s")
        divider = TrackDivider((info.width, info.height), analyzer, options)
        collector = TrackCollector(analyzer, options)
        spans = []
        for track in collector.collect(at_rate(reader, info.fps, options.fps)):
            spans.append((track.start, track.start + len(track.faces)))
            divider.add(track)
        dropped = [*divider.dropped, *_without_face(collector, spans, options.fps)]
        clips = sorted(divider.clips, key=lambda clip: (clip.start, clip.window))
        samples, members = _cut(reader, clips, key, options)
    if options.fps == FRAMES_PER_SECOND:
        for sample, (sound, about) in zip(samples, aligned_sounds(path, clips), strict=True):
            sample.about.update(about)
            if sound is not None:
                members[f"{sample.key}.ogg"] = sound
    seconds = collector.frames / options.fps
    return Part("video", seconds, tuple(samples), tuple(merge_adjacent(dropped, 1 / options.fps))), members


def merge_adjacent(dropped: Iterable[Dropped], gap: float) -> list[Dropped]:
    """Pieces in chronological order; those with the same reason at most `gap` seconds apart are merged."""
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


def _no_samples(info: VideoInfo, reason: str, detail: str) -> tuple[Part, dict[str, bytes]]:
    return Part("video", info.duration_s, (), (Dropped(reason, detail),)), {}


def _without_face(collector: TrackCollector, spans: Iterable[tuple[int, int]], fps: int) -> list[Dropped]:
    """Stretches of at least a second in which no face was tracked."""
    covered = np.zeros(collector.frames, bool)
    for start, end in spans:
        covered[start:end] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[True], covered, [True]]).astype(np.int8)))
    found = []
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if end - start >= MIN_GAP * fps:
            small = any(start <= frame < end for frame in collector.small)
            reason = ("small face", "too small to follow") if small else ("no face", "none is found")
            found.append(Dropped(*reason, round(start / fps, 3), round(end / fps, 3)))
    return found


def _cut(
    reader: VideoReader, clips: list[PreparedClip], key: str, options: PrepareOptions
) -> tuple[list[SampleRecord], dict[str, bytes]]:
    """The encoded clips, in order of their start."""
    hashes: list[list[NDArray[np.uint8]]] = [[] for _ in clips]
    videos: dict[int, bytes] = {}
    hash_every = max(options.fps // HASHES_PER_SECOND, 1)
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
                crop = clip.window.cut_out(frame)
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
        about = _about_clip(clip, reader.info, options)
        samples.append(
            SampleRecord(name, clip.frames, True, score, clip.embedding, np.stack(hashes[index]), about)
        )
    return samples, members


def _about_clip(clip: PreparedClip, info: VideoInfo, options: PrepareOptions) -> dict[str, Any]:
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
