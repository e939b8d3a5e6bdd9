"""The client against a running service: uvicorn on a free local port."""

from __future__ import annotations

import socket
import sys
import threading
import time
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import uvicorn
from animation_samples import bundled_networks, portrait

from liveportrait import Animator, UserError
from liveportrait.apps.serve import address_of, listening, serve
from liveportrait.apps.server import access
from liveportrait.apps.server.application import create_application
from liveportrait.apps.server.client import Client, ServiceError
from liveportrait.apps.server.settings import Limits, ServerSettings
from liveportrait.apps.server.workers import Workers
from liveportrait.engine import Engine
from liveportrait.media import load_image, save_image

TOKEN = "a-token-that-nobody-guesses"


@contextmanager
def serving(data, animator, **settings):
    """Run a service in a thread; gives its URL."""
    application = create_application(ServerSettings(data=data, end_seconds=0.01, **settings), animator)
    with listening("127.0.0.1", 0) as listener:
        server = uvicorn.Server(
            uvicorn.Config(application, log_level="warning", log_config=None, timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield address_of(listener)
        finally:
            server.should_exit = True
            thread.join(120)
            assert not thread.is_alive()


def test_the_client_posts_follows_fetches_cancels_and_streams(tmp_path, monkeypatch):
    photo = tmp_path / "me.png"
    save_image(photo, portrait()[::2, ::2].copy())
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    animator = Animator(Engine(bundled_networks(), "fp32", backend="eager"))
    with serving(tmp_path / "data", animator, tokens=tokens, limits=Limits(queue=1, always_mark=True)) as url:
        with Client(url) as stranger, pytest.raises(ServiceError) as refused:
            stranger.submit("edit", "an id")
        assert refused.value.status == 401
        with pytest.raises(ServiceError, match="refused the stream"):
            stranger.stream("astronaut")

        with Client(url, TOKEN) as client:
            assert client.verify(photo) == {"marked": False, "credentials": None, "watermark": []}
            source = client.post_source(photo)
            job = client.submit("edit", photo, options={"smile": 1}, format=".jpg", patience=120)
            seen = []
            assert client.wait(job, seen.append).frames == 1 and seen[-1].is_finished
            smile = client.fetch(job, tmp_path / "smile.jpg")
            assert load_image(smile).shape == (150, 150, 3)
            said = client.verify(smile)
            assert said["marked"] and said["credentials"]["facts"]["source"] == {"sha256": source}
            assert "marked: watermark, content credentials" in seen[-1].notes[-1]
            assert f"{source}.png" in [path.name for path in (tmp_path / "data/uploads").iterdir()]

            long = [client.submit("animate", source, ["talk"])]
            while client.status(long[0]).state == "queued":
                time.sleep(0.01)
            long.append(client.submit("animate", source, ["talk"]))
            with pytest.raises(ServiceError) as full:
                client.submit("animate", source, ["talk"])
            assert full.value.status == 429
            monkeypatch.setattr(Workers, "retry_s", 0)
            threading.Timer(0.2, client.cancel, [long[1]]).start()
            long.append(client.submit("animate", source, ["talk"], patience=120))
            for each in reversed(long):
                client.cancel(each)
            with pytest.raises(ServiceError, match="the job was cancelled"):
                client.wait(long[0])
            with pytest.raises(ServiceError, match="always marks its results"):
                client.submit("edit", source, options={"no-mark": True})
            with pytest.raises(ServiceError, match="smile is 9"):
                client.submit("edit", source, options={"smile": 9})
            with pytest.raises(ServiceError, match="the job is cancelled"):
                client.fetch(long[0], tmp_path / "none.mp4")
            assert not list(tmp_path.glob("*none*"))

            frame = cv2.imencode(".jpg", portrait()[..., ::-1])[1].tobytes()
            with client.stream(photo, {"smooth": 0.1}) as stream:
                reply = stream(frame)
                picture = cv2.imdecode(np.frombuffer(reply.picture, np.uint8), cv2.IMREAD_COLOR)
                assert reply.header["face"] and picture.shape == (150, 150, 3)
                with pytest.raises(ServiceError, match="neither JPEG nor WebP"):
                    stream(b"no picture")
            hum = (8000 * np.sin(np.arange(6400) / 12)).astype("<i2").tobytes()
            with client.voice(photo, {"fps": 5, "head": "still"}) as voice:
                voice.feed(hum)
                heard = b""
                for said in voice:
                    picture = cv2.imdecode(np.frombuffer(said.picture, np.uint8), cv2.IMREAD_COLOR)
                    assert picture.shape == (150, 150, 3)
                    heard += said.sound.lstrip(b"\0")
                    if len(heard) >= 6400:
                        break
                voice.interrupt()
            with pytest.raises(ServiceError, match="strength is 5"):
                client.voice(photo, {"strength": 5})
            with pytest.raises(ServiceError, match="seed is -1"):
                client.speak(photo, "no id", options={"seed": -1})
            with pytest.raises(ServiceError, match="always marks its results"):
                client.stream(photo, {"mark": False})
            with pytest.raises(ServiceError, match="no portrait 'nobody'"):
                client.stream("nobody")


def test_incomplete_requests_do_not_affect_others(tmp_path, monkeypatch, caplog):
    """One client disconnects in the middle of a file, another stalls: others are served, and nothing is kept."""
    monkeypatch.setattr(access, "BODY_TIMEOUT_S", 0.3)
    head = b"POST /v1/sources HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 999\r\n"
    form = b'Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposition: form-data; name="file"; '
    with serving(tmp_path, object()) as url, Client(url) as client:
        place = int(url.rsplit(":", 1)[1])
        with socket.create_connection(("127.0.0.1", place)) as gone:
            gone.sendall(head + form)
        with socket.create_connection(("127.0.0.1", place)) as silent:
            silent.sendall(head + form + b'filename="me.png"\r\n\r\n')
            assert b" 408 " in silent.recv(4096)
        with pytest.raises(ServiceError, match="there is no job"):
            client.status("none")
        assert not list((tmp_path / "uploads").iterdir())
    assert not caplog.records


def test_a_service_that_cannot_start_says_why(tmp_path, monkeypatch):
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}"):
            serve(ServerSettings(data=tmp_path, port=port))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match="cannot be used"):
        serve(ServerSettings(data=tmp_path / "file", port=0))
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match=r"the service needs uvicorn.*pip install 'liveportrait\[serve\]'"):
        serve(ServerSettings(data=tmp_path, port=0))
