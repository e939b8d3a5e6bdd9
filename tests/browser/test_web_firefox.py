"""The serverless page in Firefox: a photo and a bundled motion become a video."""

from __future__ import annotations

import cv2
import pytest
from animation_samples import portrait, write_video
from firefox import firefox, running
from web_dist import FRAMES
from web_visits import ONE_THREAD

from liveportrait import Animator
from liveportrait.marking.film import watermarks
from liveportrait.media import VideoReader, save_image
from liveportrait.motion import read_template

ENCODED = 30.0  # dB of frames against Python's, behind a video encoder
H264 = "{codec: 'avc1.640020', width: 300, height: 300}"
MESSAGE = "document.querySelector('#message').textContent"


def test_a_photo_becomes_a_watermarked_video_in_firefox(built, server, tmp_path):
    program = firefox()
    if program is None:
        pytest.skip("there is no Firefox: apt-get install firefox-esr")
    pytest.importorskip("websockets", reason="websockets is not installed")
    photo = tmp_path / "photo.png"
    save_image(photo, portrait())
    with running(program, tmp_path) as page:
        page.open(server.address + ONE_THREAD)
        page.wait("document.body.dataset.ready")
        encodes = page.run(f"VideoEncoder.isConfigSupported({H264}).then((told) => told.supported)")
        page.choose("#photo", photo)
        page.wait(f"{MESSAGE}.startsWith('Choose a motion')")
        page.run("document.querySelector('#animate').click()")
        page.wait("!document.querySelector('#download').hidden")
        told = page.run(MESSAGE)
        path = page.download("#download")
        if not page.run(f"VideoDecoder.isConfigSupported({H264}).then((told) => told.supported)"):
            page.choose("#driver", write_video(tmp_path / "film.mp4", [portrait()] * 2))
            page.run("document.querySelector('[value=video]').checked = true")
            page.run("document.querySelector('#animate').click()")
            page.wait(f"{MESSAGE}.includes('cannot decode film.mp4 (avc): convert it to WebM')")
    assert told.startswith(f"{FRAMES} frames in")
    assert encodes or "cannot encode H.264: the MP4 holds VP9" in told
    frames = list(VideoReader(path))
    with Animator.load("compact", threads=1, backend="eager").open(photo) as opened:
        made = list(opened.drive(read_template(built / "motions/talk.safetensors")))
    assert path.name == "talk.mp4" and len(frames) == FRAMES
    assert min(map(cv2.PSNR, frames, made)) >= ENCODED
    assert [mark.payload and mark.payload.work for mark in watermarks(path)] == ["animated"]
