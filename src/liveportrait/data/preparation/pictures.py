"""One picture: a sample for every face in it; of an animal, its middle square without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liveportrait.data.preparation import judging
from liveportrait.data.preparation.duplicates import aligned_face, difference_hash
from liveportrait.data.preparation.encoding import cut_out, jpeg, npz
from liveportrait.data.preparation.judging import Reason
from liveportrait.data.preparation.labels import make_labels, single, stored_landmarks
from liveportrait.data.preparation.options import PrepareOptions
from liveportrait.data.preparation.parts import Part, SampleRecord
from liveportrait.data.preparation.quality import measure_face, measure_region, picture_quality, quality
from liveportrait.data.preparation.records import Clip, Dropped, Window
from liveportrait.data.preparation.tracking import DETECTOR_SHARE
from liveportrait.data.preparation.windows import boxes_of, fit_window
from liveportrait.face import Face, FaceAnalyzer
from liveportrait.media import load_image

Image = NDArray[np.uint8]


def prepare_picture(
    path: Path, key: str, analyzer: FaceAnalyzer, options: PrepareOptions
) -> tuple[Part, dict[str, bytes]]:
    """Samples of a picture, and their files (jpg and npz) by name. Raises UserError where it cannot be read."""
    image = load_image(path)
    found = [_animal(image, options)] if options.domain == "animal" else _people(image, analyzer, options)
    samples, members = [], dict[str, bytes]()
    for index, clip in enumerate(clip for clip in found if isinstance(clip, Clip)):
        name, crop = f"{key}-{index:03d}", cut_out(image, clip.window)
        looked_at = crop
        members[f"{name}.jpg"] = jpeg(crop)
        if clip.labels:
            looked_at = aligned_face(crop, stored_landmarks(clip.labels)[0])
            members[f"{name}.npz"] = npz(single(clip.labels))
        about = _about(clip, image, options)
        score = round(clip.quality.score, 4)
        samples.append(
            SampleRecord(name, 1, False, score, clip.embedding, difference_hash(looked_at)[None], about)
        )
    dropped = tuple(Dropped(*reason) for reason in found if not isinstance(reason, Clip))
    return Part("image", 0.0, tuple(samples), dropped), members


def _people(image: Image, analyzer: FaceAnalyzer, options: PrepareOptions) -> list[Clip | Reason]:
    """A clip of one frame for each face, or why there is none; largest face first."""
    faces = analyzer.detect(image, options.min_face * DETECTOR_SHARE)
    return [_person(image, face, analyzer, options) for face in faces] or [("no face", "none is found")]


def _person(image: Image, face: Face, analyzer: FaceAnalyzer, options: PrepareOptions) -> Clip | Reason:
    measures = measure_face(image, face)
    height = np.array([face.box[3] - face.box[1]], np.float32)
    score = np.array([face.score], np.float32)
    found = quality([measures], height, score, jitter=0.0)
    landmarks = face.landmarks[None]
    window = fit_window(boxes_of(landmarks), (image.shape[1], image.shape[0]), options)
    reason = (
        judging.appearance_reason(measures.sharpness, height, score, options)
        or judging.exposure_reason(measures, options)
        or (None if window else ("no window", "the picture's edge is too near the face"))
        or judging.quality_reason(found, options)
    )
    if reason is not None:
        return reason
    assert window is not None
    labels = make_labels(landmarks, window, analyzer)
    return Clip(0, window, labels, found, analyzer.identity(image, face.landmarks), frames=1)


def _animal(image: Image, options: PrepareOptions) -> Clip | Reason:
    """The middle square: there is no landmark network for animals here."""
    height, width = image.shape[:2]
    side = min(height, width)
    window = Window((width - side) // 2, (height - side) // 2, side)
    measures = measure_region(image, (window.x, window.y, window.x + side, window.y + side))
    if side < options.min_face:
        return "small picture", f"{side} px"
    found = picture_quality(measures, side)
    reason = judging.exposure_reason(measures, options) or judging.quality_reason(found, options)
    return reason or Clip(0, window, {}, found, None, frames=1)


def _about(clip: Clip, image: Image, options: PrepareOptions) -> dict[str, Any]:
    return {
        "domain": options.domain,
        "orig_size": [image.shape[1], image.shape[0]],
        "crop_xys": list(clip.window),
        "quality": clip.quality.to_json(),
    }
