"""`liveportrait live --camera`: a video file as the camera, a fake virtual camera, and cameras that fail."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
from animation_samples import bundled_networks, driving_frames, portrait, write_video

from liveportrait import weights
from liveportrait.apps.cli import main
from liveportrait.apps.live import camera, window
from liveportrait.apps.live.command import portrait_names
from liveportrait.apps.live.outputs import fitted
from liveportrait.media import VideoReader, save_image


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Two portraits, a video and weights."""
    folder = tmp_path_factory.mktemp("live")
    save_image(folder / "face.png", portrait()[:, :280])
    save_image(folder / "other.png", np.ascontiguousarray(portrait()[:200, ::-1]))
    write_video(folder / "film.mp4", driving_frames(8) + driving_frames(8)[::-1])
    weights.save(bundled_networks(), folder / "weights", weights.Metadata("a test", "MIT"))
    return folder


@pytest.fixture(autouse=True)
def here(files, monkeypatch) -> None:
    monkeypatch.chdir(files)


def live(*arguments: str) -> int:
    return main(["live", *arguments, "--weights", "weights", "--device", "cpu"])


class FakeDevice:
    """A fake back end for pyvirtualcam."""

    frames: list[np.ndarray] = []  # noqa: RUF012

    def __init__(self, *, width, height, fps, fourcc, device, **more) -> None:
        self.shape = height, width, 3

    def send(self, frame) -> None:
        FakeDevice.frames.append(frame.reshape(self.shape).copy())

    def close(self) -> None: ...

    def device(self) -> str:
        return "fake"

    def native_fourcc(self) -> None:
        return None


def test_a_video_file_drives_a_recording_and_a_virtual_camera(capsys, monkeypatch, tmp_path):
    pyvirtualcam = pytest.importorskip("pyvirtualcam", reason="the extra [camera] is not installed")
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {"fake": FakeDevice})
    out = tmp_path / "out.mp4"
    assert (
        live("face.png", "--camera", "film.mp4", "--no-window", "--virtual-camera", "--record", str(out)) == 0
    )
    printed = capsys.readouterr().out
    assert "the portrait is camera fake" in printed and f"wrote {out}" in printed and "frames/s" in printed
    recorded = VideoReader(out)
    assert (recorded.info.width, recorded.info.height, recorded.info.fps) == (280, 300, 25)
    shown = FakeDevice.frames
    assert shown[0].shape == (720, 1280, 3) and not shown[0][:, :300].any()  # black next to the portrait
    assert np.abs(fitted(portrait()[:, :280], 1280, 720) - shown[0].astype(int)).mean() < 8
    assert live("face.png", "--camera", "film.mp4", "--no-window", "--record", str(out)) == 2
    assert "exists" in capsys.readouterr().err


class FakeCapture:
    """A camera that is unplugged after `frames` frames."""

    def __init__(self, frames: int = 3) -> None:
        self.left = frames

    def __call__(self, name) -> FakeCapture:
        return self

    def isOpened(self) -> bool:
        return True

    def read(self):
        time.sleep(0.03)
        if self.left == 0:
            return False, None
        self.left -= 1
        return True, cv2.cvtColor(portrait(), cv2.COLOR_RGB2BGR)

    def get(self, what) -> float:
        return 0.0

    def set(self, what, value) -> None: ...

    def release(self) -> None: ...


def test_an_unplugged_or_missing_camera_is_reported_in_one_sentence(capsys, monkeypatch, tmp_path):
    assert live("face.png", "--camera", "97", "--no-window", "--record", str(tmp_path / "out.mp4")) == 2
    error = capsys.readouterr().err
    assert error.startswith("liveportrait: cannot open camera 97") and error.count("\n") == 1
    monkeypatch.setattr(camera.cv2, "VideoCapture", FakeCapture())
    assert live("face.png", "--camera", "0", "--no-window", "--record", str(tmp_path / "out.mp4")) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("liveportrait: camera 0 has stopped sending frames")
    # The recording so far is kept.
    assert (
        f"wrote {tmp_path / 'out.mp4'}" in printed.out and VideoReader(tmp_path / "out.mp4").info.width == 280
    )


def test_ctrl_c_finishes_the_recording(capsys, monkeypatch, tmp_path):
    class Interrupting(FakeDevice):
        def send(self, frame) -> None:
            handler = signal.getsignal(signal.SIGINT)
            assert callable(handler)
            handler(signal.SIGINT, None)

    pyvirtualcam = pytest.importorskip("pyvirtualcam", reason="the extra [camera] is not installed")
    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {"fake": Interrupting})
    monkeypatch.setattr(camera.cv2, "VideoCapture", FakeCapture(10**6))
    out = tmp_path / "out.mp4"
    before = signal.getsignal(signal.SIGINT)
    assert live("face.png", "--no-window", "--virtual-camera", "--record", str(out)) == 0
    assert f"wrote {out}" in capsys.readouterr().out and VideoReader(out).info.width == 280
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_works_after_the_face_analyzer_is_freed():
    """In a separate process: a signal on a stack that OpenVINO has freed would kill this one."""
    program = """if True:
        import os, signal
        from animation_samples import portrait
        from liveportrait.face.analyzer import default_analyzer
        analyzer = default_analyzer()
        analyzer.blendshapes(analyzer.detect(portrait())[0])
        del analyzer
        heard = []
        signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
        os.kill(os.getpid(), signal.SIGINT)
        print(len(heard))
        """
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, "1")


def test_the_window_shows_portraits_and_handles_keys(capsys, monkeypatch):
    shown, bound = [], {}

    class Toolkit:
        """The part of tkinter that a window uses; its user switches to the other portrait, then quits."""

        TclError = RuntimeError

        def __init__(self, *arguments, **options) -> None: ...

        def bind(self, name, action) -> None:
            bound[name] = action

        def configure(self, image) -> None:
            shown.append(image.shape)

        def update(self) -> None:
            bound["2" if len(shown) < 2 else "<Escape>"](None)

        def __getattr__(self, name):
            return lambda *arguments, **options: None

    toolkit = types.ModuleType("tkinter")
    toolkit.Tk = toolkit.Label = Toolkit
    toolkit.TclError = RuntimeError
    images = types.ModuleType("PIL.ImageTk")
    images.PhotoImage = lambda picture, master: np.asarray(picture)
    monkeypatch.setitem(sys.modules, "tkinter", toolkit)
    monkeypatch.setitem(sys.modules, "PIL.ImageTk", images)
    monkeypatch.setattr(window.PIL, "ImageTk", images, raising=False)
    monkeypatch.setattr(camera.cv2, "VideoCapture", FakeCapture(10**6))
    assert live("face.png", "other.png", "--camera", "0") == 0
    assert shown == [(300, 280, 3), (200, 300, 3)] and {"r", "1", "2", "<Escape>"} == set(bound)
    toolkit.Tk = lambda: (_ for _ in ()).throw(RuntimeError("no display"))
    assert live("face.png", "--camera", "0") == 2
    assert "there is no display for the window" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nobody.png"], "nobody.png"),
        (["--camera", "0"], "PORTRAIT is missing"),
        (["face.png", "--camera", "nothing.mp4"], "camera is 'nothing.mp4'"),
        (["face.png", "--camera", "film.mp4", "--no-window"], "--no-window leaves nothing to show"),
        (["face.png", "--alpha"], "no transparency"),
        (["face.png", "--record", "out.txt"], "out.txt"),
    ],
)
def test_invalid_arguments_are_refused_before_any_work(arguments, sentence, capsys):
    assert live(*arguments) == 2
    assert sentence in capsys.readouterr().err


def test_portraits_are_named_after_their_files():
    paths = Path("a/me.jpg"), Path("b/me.jpg"), Path("b/you.png")
    assert portrait_names(paths) == {"a/me.jpg": paths[0], "b/me.jpg": paths[1], "you": paths[2]}
