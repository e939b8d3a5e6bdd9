"""The live stream, with a client without a browser: what it sends, and what it refuses."""

from __future__ import annotations

import json
import socket
import struct
import time
from functools import partial

import cv2
import numpy as np
import pytest
from animation_samples import bundled_networks, driving_frames, portrait
from serving import served
from speech_samples import LoudVoice

pytest.importorskip("fastapi", reason="the extra [serve] is not installed")

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from liveportrait.animation.animator import Animator
from liveportrait.animation.speaking import voice as voices
from liveportrait.apps.live.command import LiveOptions
from liveportrait.apps.live.frames import encode_frame, pack, unpack
from liveportrait.apps.server.application import create_application
from liveportrait.apps.server.settings import LiveLimits, ServerSettings
from liveportrait.engine import Engine

LIMITS = LiveLimits(sessions=2, frame_bytes=100_000, frame_pixels=300 * 300, silence=600)
PATIENCE = 240.0  # s for an answer: other tests may be using the cores


@pytest.fixture(scope="module")
def animator() -> Animator:
    return Animator(Engine(bundled_networks(), threads=1))


@pytest.fixture(scope="module")
def address(animator, tmp_path_factory):
    """A server with two portraits and at most two concurrent streams."""
    face = portrait()
    portraits = {"face": face, "mirrored": np.ascontiguousarray(face[:200, ::-1])}
    settings = ServerSettings(data=tmp_path_factory.mktemp("service"), live=LIMITS)
    application = create_application(settings, animator)
    application.state.gallery.set_portraits(portraits, drive=LiveOptions(lock_scale=True))
    with served(application) as url:
        yield url.replace("http", "ws") + "/v1/live/stream"


class Visitor:
    """A client that sends frames and receives pictures."""

    def __init__(self, address: str, **settings) -> None:
        self._connect = partial(connect, address, max_size=None, **settings)

    def __enter__(self):
        deadline = time.monotonic() + PATIENCE
        while True:  # a client that has just left may still occupy a slot
            self._connecting = self._connect()
            self.socket = self._connecting.__enter__()
            self.hello = json.loads(self.socket.recv(timeout=PATIENCE))
            if "try again" not in self.hello.get("error", "") or time.monotonic() > deadline:
                return self
            self._connecting.__exit__(None, None, None)
            time.sleep(0.05)

    def __exit__(self, *error):
        self._connecting.__exit__(*error)

    def send(self, frame: np.ndarray, number: int = 0, **header) -> None:
        self.socket.send(pack({"frame": number, **header}, encode_frame(frame)))

    def command(self, **command) -> None:
        self.socket.send(json.dumps(command))

    def told(self) -> dict:
        """The next text message; pictures before it are dropped."""
        while isinstance(message := self.socket.recv(timeout=PATIENCE), bytes):
            pass
        return json.loads(message)

    def picture(self) -> tuple[dict, np.ndarray]:
        """Header and pixels of the next picture."""
        message = self.socket.recv(timeout=PATIENCE)
        assert isinstance(message, bytes), message
        header, body = unpack(message)
        return header, cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR_RGB)

    def refused(self) -> tuple[int, str]:
        """The close code of the stream, and the error message before it."""
        while "error" not in (told := self.told()):
            pass
        sentence = told["error"]
        with pytest.raises(ConnectionClosed) as closed:
            self.socket.recv(timeout=PATIENCE)
        assert closed.value.rcvd and sentence.startswith(closed.value.rcvd.reason)
        return closed.value.rcvd.code, sentence


def test_a_portrait_follows_and_can_be_switched_while_it_runs(address):
    frames = driving_frames(5)
    with Visitor(address) as visitor:
        assert visitor.hello == {"portraits": ["face", "mirrored"], "options": {"lock_scale": True}}
        pictures, shares = [], []
        for number, frame in enumerate(frames):
            visitor.send(frame, number)
            header, picture = visitor.picture()
            assert (header["frame"], header["face"], header["skipped"]) == (number, True, 0)
            assert {"wait", "decode", "detect", "motion", "render", "paste", "encode"} <= set(
                header["stages"]
            )
            whole, told = header["sent"] - header["received"], sum(header["stages"].values())
            assert told < whole + 1
            shares.append(told / whole)
            pictures.append(picture.astype(int))
        assert max(shares) > 0.6  # between stages, other processes may have the core
        assert pictures[0].shape == (300, 300, 3) and np.abs(pictures[0] - portrait()).mean() < 4
        assert np.abs(pictures[4] - pictures[0]).mean() > 2  # the driver's head has turned by eight degrees
        # The other portrait keeps the same start frame: it is already turned.
        visitor.command(portrait="mirrored")
        assert visitor.told() == {"portrait": "mirrored"}
        visitor.send(frames[4], 5)
        turned = visitor.picture()[1]
        visitor.command(reset=True)
        visitor.send(frames[4], 6)
        straight = visitor.picture()[1]
        own = portrait()[:200, ::-1]
        assert turned.shape == straight.shape == own.shape
        assert np.abs(straight - own.astype(int)).mean() < 4 < np.abs(turned - own.astype(int)).mean()
        # The visitor's own photo, and a file that is not a photo.
        png = cv2.imencode(".png", portrait()[:, :280, ::-1])[1].tobytes()
        visitor.socket.send(pack({"portrait": "me.png"}, png))
        assert visitor.told() == {"portrait": "me.png"}
        visitor.socket.send(pack({"portrait": "text.png"}, b"no picture at all"))
        wrong = visitor.told()
        assert "text.png" in wrong["error"] and wrong["portrait"] == "text.png"
        visitor.command(portrait="face")
        assert visitor.told() == {"portrait": "face"}
        visitor.command(portrait="me.png", format="webp")
        assert visitor.told() == {"portrait": "me.png"}
        visitor.command(options={"region": "lips", "multiplier": 1.5})
        assert visitor.told() == {"options": {"region": "lips", "multiplier": 1.5}}
        for wrong, word in (
            ({"options": {"region": "nose"}}, "region"),
            ({"options": {"faces": "all"}}, "faces"),
            ({"options": {"alpha": True}}, "alpha"),
            ({"portrait": "nobody"}, "'nobody'"),
            ({"jump": 1}, "'jump'"),
        ):
            visitor.command(**wrong)
            assert word in visitor.told()["error"]
        # Nobody in front of the camera: reported, and the picture stands still.
        visitor.send(frames[2], 7)
        seen, moved = visitor.picture()
        visitor.send(np.full_like(frames[2], 128), 8)
        lost, still = visitor.picture()
        assert (seen["face"], lost["face"]) == (True, False) and np.array_equal(moved, still)
        assert moved.shape == (300, 280, 3)


def test_late_frames_are_dropped_and_pictures_wait_for_a_slow_client(address):
    frame = driving_frames(1)[0]
    with Visitor(address) as visitor:
        for number in range(3):
            visitor.send(frame, number, seen=0)
            assert visitor.picture()[0]["frame"] == number
        # Three pictures are in flight: no fourth one is rendered before the client acknowledges them.
        for number in range(3, 40):
            visitor.send(frame, number, seen=0)
        with pytest.raises(TimeoutError):
            visitor.socket.recv(timeout=0.5)
        visitor.command(seen=3)
        header = visitor.picture()[0]
        assert (header["frame"], header["skipped"]) == (39, 36)


def test_a_portrait_speaks_the_sound_it_is_sent_and_idles(address, monkeypatch):
    monkeypatch.setattr(voices, "voice_for", lambda session, options, fps: LoudVoice(fps, options.seed))
    hum = (8000 * np.sin(np.arange(9600) / 12)).astype("<i2")

    def utterance(visitor):
        message = visitor.socket.recv(timeout=PATIENCE)
        assert isinstance(message, bytes), message
        header, body = unpack(message)
        visitor.command(seen=header["reply"])
        picture = cv2.imdecode(np.frombuffer(body[: header["picture"]], np.uint8), cv2.IMREAD_COLOR_RGB)
        sound = np.frombuffer(body[header["picture"] :], "<i2")
        assert len(sound) == header["samples"] == 3200 * (1 + header["skipped"])
        return header, picture, sound

    with Visitor(address) as visitor:
        visitor.socket.send(pack({"sound": 1}, hum.tobytes()))
        assert "is following a camera" in visitor.told()["error"]
        visitor.send(driving_frames(1)[0])  # so that the portrait is open when the voice starts
        visitor.picture()
        for wrong, word in (
            ({"head": "me.mp4"}, "head"),
            ({"region": "lips"}, "region"),
            ({"fps": 90}, "fps"),
        ):
            visitor.command(voice=wrong)
            assert word in visitor.told()["error"]
        visitor.command(voice={"fps": 5, "head": "still", "no-blink": True}, seen=1)
        visitor.socket.send(pack({"sound": 1}, hum.tobytes()))  # before the voice is ready
        assert visitor.told() == {"voice": {"fps": 5, "head": "still", "no-blink": True}}
        heard, pictures = [], []
        while sum(map(len, heard)) < 4 * 3200:
            header, picture, sound = utterance(visitor)
            if heard or sound.any():  # on an overloaded machine, silence until the sound has arrived
                heard.append(sound)
                pictures.append(picture.astype(int))
        said = np.concatenate(heard)
        assert np.abs(said[:9600].astype(int) - hum).max() <= 1 and not said[9600:].any()  # then silence
        assert header["said"] == len(hum)
        assert header["waiting"] == 0 and {"motion", "render", "paste", "whole", "encode"} <= set(
            header["stages"]
        )
        mouth = np.s_[100:, 100:200]
        assert np.abs(pictures[-1] - portrait()).mean() < 4
        assert (
            np.abs(pictures[0] - pictures[-1])[mouth].mean()
            > 2 * np.abs(pictures[0] - pictures[-1])[:100].mean()
        )
        # Queued sound is dropped; the camera is followed only after the voice has stopped.
        visitor.socket.send(pack({"sound": 2}, np.tile(hum, 50).tobytes()))
        visitor.command(interrupt=True)
        visitor.send(driving_frames(1)[0])
        assert "is speaking" in visitor.told()["error"]
        assert utterance(visitor)[0]["waiting"] == 0
        visitor.command(voice=False)
        assert visitor.told() == {"voice": False}
        visitor.send(driving_frames(1)[0], 7)
        assert visitor.picture()[0]["frame"] == 7
        visitor.command(voice=True)
        visitor.socket.send(pack({"sound": 3}, b"odd"))
        assert visitor.refused()[0] == 1003


def cut(data: bytes) -> bytes:
    return pack({"frame": 3}, data[: len(data) // 2])


JPEG = encode_frame(portrait())
REFUSED = {
    "text": ("frames, please", 1003, "text"),
    "no header": (JPEG, 1007, "header"),
    "half a message": (pack({"frame": 1}, JPEG)[:7], 1007, "header"),
    "half a frame": (cut(JPEG), 1007, "frame 3 is truncated"),
    "half a WebP": (cut(encode_frame(portrait(), "webp")), 1007, "frame 3 is truncated"),
    "a damaged frame": (pack({"frame": 3}, b"\xff\xd8\xff" + bytes(50) + b"\xff\xd9"), 1007, "damaged"),
    "another kind": (
        pack({"frame": 3}, cv2.imencode(".png", portrait()[:50, :50])[1].tobytes()),
        1003,
        "JPEG",
    ),
    "too many pixels": (pack({"frame": 3}, encode_frame(np.zeros((310, 300, 3), np.uint8))), 1009, "300x310"),
    "too many bytes": (pack({"frame": 3}, JPEG + bytes(100_000)), 1009, "bytes"),
    "a huge message": (bytes(15 * 2**20 + 1), 1009, "bytes"),
}


def test_an_invalid_frame_ends_only_its_own_stream(address):
    frame = driving_frames(1)[0]
    with Visitor(address) as other:
        for name, (message, code, word) in REFUSED.items():
            with Visitor(address) as visitor:
                visitor.socket.send(message)
                refused = visitor.refused()
            assert refused[0] == code and word in refused[1], name
            other.send(frame)
            assert other.picture()[0]["face"]


def test_a_silent_stream_is_closed(animator, tmp_path):
    application = create_application(ServerSettings(data=tmp_path, live=LiveLimits(silence=0.3)), animator)
    with served(application) as url, Visitor(url.replace("http", "ws") + "/v1/live/stream") as silent:
        assert silent.refused() == (1008, "nothing arrived for 0.3 s: start again")


def test_concurrent_streams_are_limited_and_released(address):
    with Visitor(address) as first, Visitor(address) as second:
        with connect(address) as third:
            assert "all 2 live streams" in json.loads(third.recv(timeout=PATIENCE))["error"]
            with pytest.raises(ConnectionClosed) as closed:
                third.recv(timeout=PATIENCE)
        assert closed.value.rcvd.code == 1013
        # A visitor who disconnects in the middle of a message.
        raw: socket.socket = first.socket.socket
        first.send(driving_frames(1)[0])
        raw.sendall(struct.pack("!BB", 0x82, 0xFE))
        raw.shutdown(socket.SHUT_RDWR)
        second.send(driving_frames(1)[0])
        assert second.picture()[0]["face"]
        deadline = time.monotonic() + PATIENCE
        while True:
            with connect(address) as fourth:
                if "portraits" in json.loads(fourth.recv(timeout=PATIENCE)):
                    break
            assert time.monotonic() < deadline, "the slot was not released"
            time.sleep(0.05)
