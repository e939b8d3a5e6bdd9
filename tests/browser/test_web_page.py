"""The serverless page: the browser makes the same video of a photo and a motion as Python."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from animation_samples import driving_frames, people, write_sound, write_video
from web_browser import image_of, modules
from web_dist import FRAMES, serving
from web_visits import ONE_THREAD, bring, mark_of, says, shot, video_of

from liveportrait import Animator
from liveportrait.marking.film import watermarks
from liveportrait.media import VideoReader, save_image
from liveportrait.media.sound.speech import read_speech
from liveportrait.motion import read_template

PHONE = 390, 844
ALIKE = 45.0  # dB of frames against Python's
ENCODED = 30.0  # dB, the same behind a video encoder
# Cancels as soon as the first frame is reported: a short video is done in a second.
CANCEL = """() => {
    const [message, cancel] = ["message", "cancel"].map((id) => document.getElementById(id));
    const watch = () => message.textContent.startsWith("Frame") && (observer.disconnect(), cancel.click());
    const observer = new MutationObserver(watch);
    observer.observe(message, {childList: true, characterData: true, subtree: true});
}"""
NO_SIMD = "WebAssembly.validate = () => false"

FIRST_FRAMES = """
const {Runtime, loadManifest} = await load("runtime.js");
const {setConstants} = await load("constants.js");
const {FaceAnalyzer} = await load("face/analyzer.js");
const {readPicture} = await load("media/pictures.js");
const {Animator} = await load("animation/animator.js");
const {TemplatePlay} = await load("animation/drivers.js");
const {readTemplate} = await load("motion/templates.js");
const manifest = await loadManifest();
setConstants(manifest.constants);
const runtime = new Runtime(manifest, {kind: "wasm", file: "ort.wasm.min.js", threads: 1});
await runtime.load(Object.keys(manifest.graphs).filter((name) => name !== "lip_retargeting"));
const loaded = runtime.networks;
const picture = await readPicture(new Blob([photo]));
const analyzer = new FaceAnalyzer(loaded);
const [face] = await analyzer.detect(picture);
const scores = await analyzer.blendshapes(face);
const portrait = await new Animator(loaded).open({picture, face, scores, outlines: [], mark});
const template = await (await fetch(manifest.motions.talk)).arrayBuffer();
const frames = [];
for await (const {width, height, data} of portrait.drive(new TemplatePlay(readTemplate(template)), {})) {
    frames.push({width, height, data: data.slice()});
}
const {width, height, data} = await portrait.edit({smile: 0.8, yaw: 8});
return [...frames, {width, height, data: data.slice()}];
"""


@pytest.fixture(scope="module")
def made_by_python(photo: Path, built: Path) -> list[np.ndarray]:
    """The frames of the motion `talk`, and the photo edited."""
    with Animator.load("compact", threads=1, backend="eager").open(photo) as portrait:
        frames = list(portrait.drive(read_template(built / "motions/talk.safetensors")))
        return [*frames, portrait.edit(smile=0.8, yaw=8)]


def test_frames_equal_pythons(browser, built, photo, made_by_python):
    data = np.frombuffer(photo.read_bytes(), np.uint8)
    with modules(browser, built) as running:
        made = [image_of(each) for each in running.run(FIRST_FRAMES, photo=data, mark=mark_of(photo))]
    assert len(made) == len(made_by_python) == FRAMES + 1
    likeness = [cv2.PSNR(ours, theirs) for ours, theirs in zip(made, made_by_python, strict=True)]
    assert min(likeness) >= ALIKE, likeness
    assert cv2.PSNR(made[0], made[-1]) < ALIKE  # something moves


def test_a_photo_becomes_a_watermarked_video(open_page, photo, made_by_python, tmp_path):
    page = open_page()
    assert "WebAssembly, 1 thread:" in page.locator("#runtime").inner_text()
    shot(page, "web-before")
    bring(page, photo)
    path = video_of(page, tmp_path)
    shot(page, "web-after")
    assert path.name == "talk.mp4"
    frames = list(VideoReader(path))
    assert len(frames) == FRAMES and frames[0].shape == made_by_python[0].shape
    assert min(map(cv2.PSNR, frames, made_by_python)) >= ENCODED
    assert watermarks(path)  # what it says is read from the picture below, which no encoder changed
    assert page.locator("#result").is_visible()
    # Sliders show the portrait again, edited as in Python.
    page.get_by_label("Eye opening").fill("0.2")
    page.get_by_label("Smile").last.fill("0.8")
    page.locator("#canvas").wait_for()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save picture").click()
    saved.value.save_as(tmp_path / "portrait.png")
    (mark,) = watermarks(tmp_path / "portrait.png")
    assert page.locator("#message.warning").count() == 0
    assert mark.payload and (mark.payload.work, mark.payload.source) == ("edited", mark_of(photo))


def test_a_driving_video_moves_the_portrait_and_its_sound_is_kept(open_page, photo, tmp_path):
    page = open_page(size=PHONE, dark=True, is_mobile=True, has_touch=True)
    bring(page, photo)
    film = write_video(tmp_path / "film.mp4", driving_frames(5, [0]), write_sound(tmp_path / "tone.wav", 0.2))
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Own video…").click()
    chooser.value.set_files(film)
    says(page, "The portrait will follow film.mp4.")
    path = video_of(page, tmp_path)
    shot(page, "web-phone")
    reader = VideoReader(path)
    assert len(list(reader)) == 5 and abs(float(reader.info.fps) - 30000 / 1001) < 0.1
    assert sum(map(len, read_speech(path))) > 0
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= PHONE[0]


def test_a_camera_is_followed_and_a_video_can_be_cancelled(open_page, photo):
    page = open_page()
    bring(page, photo)
    page.get_by_text("Camera, live").click()
    page.get_by_role("button", name="Animate").click()
    says(page, "The portrait follows:")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Animate").wait_for()
    page.get_by_text("Smile").first.click()
    page.evaluate(CANCEL)
    page.get_by_role("button", name="Animate").click()
    says(page, "Cancelled.")
    assert page.get_by_role("button", name="Animate").is_enabled()


def test_unusable_files_are_reported_in_one_sentence(open_page, photo, tmp_path):
    page = open_page()
    (tmp_path / "notes.txt").write_text("no picture")
    page.locator("#photo").set_input_files(tmp_path / "notes.txt")
    says(page, "notes.txt is not a photo that this browser can read: choose a JPEG, PNG or WebP picture.")
    save_image(tmp_path / "grey.png", np.full((200, 200, 3), 128, np.uint8))
    page.locator("#photo").set_input_files(tmp_path / "grey.png")
    says(page, "No face was found in grey.png: use a photo that shows one from the front.")
    save_image(tmp_path / "dot.png", np.zeros((8, 8, 3), np.uint8))
    page.locator("#photo").set_input_files(tmp_path / "dot.png")
    says(page, "dot.png is 8x8 px: use one of at least 32 px a side.")
    assert page.get_by_role("button", name="Animate").is_disabled()
    bring(page, photo)
    page.get_by_text("Own video…").click()
    write_video(tmp_path / "empty.mp4", [np.full((64, 64, 3), 128, np.uint8)] * 3)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "empty.mp4").read_bytes()[:200])
    for name, told in {
        "notes.txt": "notes.txt is not a video that this browser can read: choose an MP4, MOV or WebM file.",
        "cut.mp4": "cut.mp4",
        "empty.mp4": "No face was found in empty.mp4: use a video that shows one.",
    }.items():
        page.locator("#driver").set_input_files(tmp_path / name)
        page.get_by_role("button", name="Animate").click()
        page.locator("#message.warning").filter(has_text=told).wait_for()
        assert page.locator("#message").inner_text().count(".") <= 3


def test_a_browser_without_simd_is_refused(page_at, server):
    page = page_at(f"{server.address}style.css")
    page.add_init_script(NO_SIMD)
    page.goto(server.address)
    says(page, "This browser has no WebAssembly SIMD")
    assert page.locator("#photo").is_disabled()
    assert page_at.foreign == []


def test_two_threads_keep_frames_in_order(open_page, server, photo, made_by_python, tmp_path):
    page = open_page(f"{server.address}?threads=2")
    assert "WebAssembly, 2 threads:" in page.locator("#runtime").inner_text()
    bring(page, photo)
    page.locator("body[data-threads='2']").wait_for()
    frames = list(VideoReader(video_of(page, tmp_path)))
    assert len(frames) == FRAMES
    assert min(map(cv2.PSNR, frames, made_by_python)) >= ENCODED


def test_the_page_blocks_other_addresses_itself(open_page, built, monkeypatch):
    monkeypatch.setattr("liveportrait.apps.web.server.HEADERS", {})
    with serving(built) as plain:
        page = open_page(f"{plain.address}{ONE_THREAD}")
        asked = "fetch('https://example.org/').then(() => 'sent', () => 'refused')"
        assert page.evaluate(asked) == "refused"


LANES = """
const {Lanes} = await load("workers/lanes.js");
const lanes = new Lanes((tensors) => Promise.resolve(["own", ...tensors]), 1, 3);
const one = () => new Promise((done) => setTimeout(done, 5));
const other = () => ({waiting: 0, async render(tensors) {
    this.waiting += 1; await one(); this.waiting -= 1; return ["other", ...tensors];
}});
const alone = lanes.depth;
lanes.others.push(other(), other());
const {depth} = lanes;
const made = await Promise.all([0, 1, 2, 3, 4].map((frame) => lanes.render([frame])));
lanes.isLive = true;
const live = await Promise.all([5, 6].map((frame) => lanes.render([frame])));
return [alone, depth, lanes.depth, ...[...made, ...live].map(([who, frame]) => `${who} ${frame}`)];
"""
PACING = """
const {Pacing} = await load("pacing.js");
const pacing = new Pacing();
const told = [];
const begin = () => {
    let end;
    pacing.add(new Promise((resolve) => (end = resolve)), performance.now(), ({count}) => told.push(count));
    return end;
};
const settles = async (waiting) => {
    const late = new Promise((resolve) => setTimeout(() => resolve(false), 50));
    return Promise.race([waiting.then(() => true), late]);
};
await pacing.due();
await pacing.room();
const first = begin();
const seenMeanwhile = await settles(pacing.due());
const room = pacing.room();
const before = await settles(room);
first(2); // two frames at once from here on
const after = await settles(room);
const others = [begin(), begin()];
const full = pacing.room();
const third = await settles(full);
others.forEach((end) => end(2));
return [seenMeanwhile, before, after, third, await settles(full), await settles(pacing.end()), ...told];
"""

LATER = """
const {Runtime} = await load("runtime.js");
const runtime = new Runtime({}, {});
const failures = ["offline"];
runtime.made = async () => {
    if (failures.length) throw new Error(failures.pop());
    return (tensors) => tensors;
};
runtime.loadLater("eyes");
const first = await runtime.networks.eyes([1]).catch((error) => error.message);
return [first, ...(await runtime.networks.eyes([2]))];
"""
FULL = """
const {messageOf} = await load("errors.js");
return messageOf(new DOMException("quota", "QuotaExceededError"));
"""


def test_a_network_whose_loading_failed_is_loaded_at_the_next_call(web):
    assert web.run(LATER) == ["offline", 2]


def test_full_storage_is_told_in_one_sentence(web):
    assert "has no room left for the file" in web.run(FULL)


def test_every_worker_has_the_next_frame_queued(web):
    others = [f"other {frame}" for frame in range(4)]
    live = ["other 5", "other 6"]
    assert web.run(LANES) == [1, 5, 2, *others, "own 4", *live]


def test_camera_frames_are_rendered_at_once_and_never_queue(web):
    assert web.run(PACING) == [True, False, True, False, True, True, 1, 2, 3]


def test_another_photo_replaces_the_first(open_page, photo, tmp_path):
    page = open_page()
    bring(page, photo)
    save_image(tmp_path / "other.png", people()[1])
    page.locator("#photo").set_input_files(tmp_path / "other.png")
    page.locator("canvas[aria-label*='300 by 300']").wait_for()
