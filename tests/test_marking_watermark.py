"""The watermark: only where the picture was generated, too faint to see, and readable again."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import c2pa
import cv2
import numpy as np
import pytest
from animation_samples import portrait
from PIL import Image as Pillow
from skimage.data import astronaut

from liveportrait import Animator, DriveOptions, EditOptions, metrics
from liveportrait.apps.server.views import VerdictView
from liveportrait.folders import sha256_of
from liveportrait.marking.film import Stretch, watermarks
from liveportrait.marking.payload import BITS, CODED, Payload, decode, encode
from liveportrait.marking.reading import normalised, read_normalised, read_picture
from liveportrait.marking.statement import ASSERTION, WATERMARK
from liveportrait.marking.tile import square
from liveportrait.marking.verdict import Verdict, verify
from liveportrait.marking.watermark import Watermark
from liveportrait.media import VideoWriter, load_image, save_image

PAYLOAD = Payload("animated", 0xBEEF, 0x17)
FIRST = [-0.16222, 0.07540, 0.01538, -0.33514]


def marked(picture):
    result = picture.copy()
    Watermark(PAYLOAD).embed(result)
    return result


def as_jpeg(picture, quality):
    held = io.BytesIO()
    Pillow.fromarray(picture).save(held, "JPEG", quality=quality)
    return np.asarray(Pillow.open(held).convert("RGB"))


def scaled(picture, by):
    return cv2.resize(
        picture, None, fx=by, fy=by, interpolation=cv2.INTER_AREA if by < 1 else cv2.INTER_CUBIC
    )


@pytest.fixture(scope="module")
def face():
    return np.ascontiguousarray(astronaut()[:320, 80:400])


def test_a_payload_survives_its_bits_and_noise_is_rejected():
    assert Payload.from_bits(PAYLOAD.bits()) == PAYLOAD
    random = np.random.default_rng(0)
    assert all(Payload.from_bits(random.integers(0, 2, BITS)) is None for _ in range(1000))


def test_the_code_corrects_one_bit_in_seven():
    random = np.random.default_rng(1)
    sent = 2.0 * encode(PAYLOAD.bits()) - 1
    wrong = random.permutation(CODED)[: CODED // 7]
    sent[wrong] *= -0.5
    np.testing.assert_array_equal(decode(sent), PAYLOAD.bits())


def test_the_pattern_is_the_same_on_every_machine():
    """It is computed from integers: the expected values were computed once."""
    waves = square(PAYLOAD)
    assert waves.std() == pytest.approx(1, abs=1e-5) and waves.mean() == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(waves[0, :4], FIRST, atol=1e-4)


def test_it_is_faint_and_only_in_generated_parts(face):
    region = np.zeros(face.shape[:2], np.uint8)
    cv2.circle(region, (160, 160), 100, 255, -1)
    result = face.copy()
    Watermark(PAYLOAD).embed(result, region)
    inside = region > 0
    np.testing.assert_array_equal(result[~inside], face[~inside])
    error = np.square(result[inside].astype(float) - face[inside]).mean()
    assert 10 * np.log10(255**2 / error) >= 42
    flat = np.full((128, 128, 3), 128, np.uint8)
    assert np.abs(marked(flat).astype(int) - flat).max() <= 5


def test_overlapping_regions_are_marked_once(face):
    result = face.copy()
    region = np.full((200, 200), 255, np.uint8)
    places = [(slice(0, 200), slice(0, 200)), (slice(50, 250), slice(50, 250))]
    Watermark(PAYLOAD).embed_all(result, [(place, region) for place in places])
    assert np.abs(result.astype(int) - face).max() <= 12  # it would be twice as much if marked twice
    np.testing.assert_array_equal(result[250:], face[250:])


@pytest.mark.parametrize(
    "attack",
    [
        lambda picture: as_jpeg(picture, 80),
        lambda picture: as_jpeg(scaled(picture, 0.75), 85),
        lambda picture: as_jpeg(picture[17:-15, 13:-19], 85),
        lambda picture: as_jpeg(scaled(picture, 1.1), 85),
    ],
    ids=["jpeg", "smaller", "cropped", "larger"],
)
def test_it_survives_compression_scaling_and_cropping(face, attack):
    assert read_picture(np.ascontiguousarray(attack(marked(face)))).payload == PAYLOAD


def test_unmarked_pictures_contain_no_watermark(face):
    assert read_picture(face) is None
    assert read_picture(np.full((64, 64, 3), 7, np.uint8)) is None


def test_the_marked_frames_of_a_video_are_found(tmp_path, face):
    frames = [np.ascontiguousarray(np.roll(face, row, axis=1)) for row in range(48)]
    with VideoWriter(tmp_path / "film.mp4", Fraction(25), 320, 320) as film:
        for row, frame in enumerate(frames):
            film.write(marked(frame) if row >= 24 else frame)
    assert watermarks(tmp_path / "film.mp4") == ((24, 47, PAYLOAD),)


@pytest.fixture(scope="module")
def animator():
    return Animator.load("compact", threads=1)


def test_every_result_is_watermarked_unless_turned_off(animator, tmp_path):
    """Driven, edited and live results, as arrays or written to a file."""
    with animator.open(portrait()) as opened:
        edited, plain = opened.edit(smile=0.5), opened.edit(EditOptions(smile=0.5, mark=False))
        assert metrics.psnr(edited, plain) >= 42
        driven = list(opened.drive([portrait()] * 2))
        with opened.live(DriveOptions()) as live:
            seen = live(portrait())
    for picture, work in ((edited, "edited"), (driven[0], "animated"), (seen, "live")):
        assert read_normalised(normalised(picture), [1.0]).payload.work == work
    assert read_normalised(normalised(plain), [1.0]) is None
    save_image(tmp_path / "mine.png", edited)
    found = verify(tmp_path / "mine.png")  # no credentials: the caller wrote the file
    assert found.marked and found.credentials is None and found.watermark[0].payload.work == "edited"


def test_a_copy_without_credentials_is_matched_with_them_by_its_watermark(animator, tmp_path):
    """The C2PA library reads it as a soft binding. The source's file is read once and may be gone afterwards."""
    source, out, copy = (tmp_path / name for name in ("me.png", "out.png", "copy.jpg"))
    save_image(source, portrait())
    with animator.open(source) as opened:
        digest = sha256_of(source)
        source.unlink()
        animator.edit(opened, out, EditOptions(smile=0.5))
    with c2pa.Reader(str(out)) as reader:
        assert reader.get_validation_state() in ("Valid", "Trusted")
        assertions = {each["label"]: each["data"] for each in reader.get_active_manifest()["assertions"]}
    (block,) = assertions["c2pa.soft-binding"]["blocks"]
    assert assertions["c2pa.soft-binding"]["alg"] == WATERMARK
    assert assertions["c2pa.actions.v2"]["actions"][-1]["action"] == "c2pa.watermarked.bound"
    assert assertions[ASSERTION]["source"]["sha256"] == digest
    first = verify(out)
    assert "the credentials name it" in first.lines()[-1]
    save_image(copy, load_image(out))
    found = verify(copy)
    assert found.credentials is None
    assert found.watermark[0].payload.text == block["value"] == first.credentials.watermark
    assert block["value"][2:6] == digest[:4]


def test_a_service_reports_an_unreadable_watermark():
    weak = Verdict(Path("out.png"), None, (Stretch(0, 0, None),))
    said = VerdictView.model_validate(weak.as_json())
    assert said.marked and said.watermark[0].work is None and "too weak" in weak.lines()[-1]
