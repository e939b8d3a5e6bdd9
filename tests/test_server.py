"""The service over HTTP: files, jobs, their progress and results, and which requests are refused with which status."""

from __future__ import annotations

import json
import os
import pickle
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from animation_samples import bundled_networks, driving_frames, portrait, write_video
from fastapi.testclient import TestClient
from speech_samples import reader, sound_file

from liveportrait import Animator, UserError
from liveportrait.apps.server.application import create_application
from liveportrait.apps.server.settings import Limits, ServerSettings
from liveportrait.engine import Engine
from liveportrait.media import load_image, save_image
from liveportrait.media.sound.speech import SPEECH_RATE, count_speech_samples
from liveportrait.motion import bundled_templates, read_template, write_template
from liveportrait.motion.templates import Template

TOKENS = "a-token-that-nobody-guesses", "another-that-nobody-guesses"


@pytest.fixture(scope="module")
def animator():
    return Animator(Engine(bundled_networks(), "fp32", backend="eager"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small photo, a video and a motion of two frames."""
    folder = tmp_path_factory.mktemp("files")
    save_image(folder / "me.png", portrait()[::2, ::2].copy())
    talk = next(iter(bundled_templates().values()))
    write_template(folder / "talk.safetensors", Template(talk.motion.rows([0, 1]), talk.fps, talk.layout))
    write_video(folder / "driving.mp4", driving_frames(2))
    return folder


class Endless:
    """An animator whose work continues until it is stopped."""

    def __init__(self):
        self.began = threading.Event()

    def open(self, source, options, progress):
        return None

    def edit(self, source, out, options, progress):
        self.began.set()
        while True:
            progress("animate", 1, 2)
            time.sleep(0.01)


@contextmanager
def started(data, animator, **settings):
    application = create_application(ServerSettings(data=data, end_seconds=0.01, **settings), animator)
    with TestClient(application, base_url="http://127.0.0.1:8000") as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.01)
        yield client


def post_file(client, path, name="", **sent):
    return client.post("/v1/sources", files={"file": (name or path.name, path.read_bytes())}, **sent)


def ended(client, job, **sent):
    """Wait until a job has ended, and return it."""
    with client.stream("GET", f"/v1/jobs/{job}/events", **sent) as events:
        lines = list(events.iter_lines())
    return json.loads(lines[lines.index("event: end") + 1].removeprefix("data: "))


def test_upload_run_follow_and_fetch_jobs_of_every_kind(animator, files, tmp_path):
    with started(tmp_path / "data", animator) as client:
        assert client.get("/healthz").text == "ok"
        posted = [post_file(client, files / "me.png") for _ in "ab"]
        assert [each.status_code for each in posted] == [201, 200] and posted[0].json() == posted[1].json()
        source = posted[0].json()
        assert (source["kind"], source["width"], source["frames"]) == ("picture", 150, 1)
        assert client.get(f"/v1/sources/{source['id']}").json() == source

        video = {"driving": ("driving.mp4", (files / "driving.mp4").read_bytes())}
        options = {"no-crop-driving": True, "compare": True}
        data = {"kind": "animate", "source": source["id"], "options": json.dumps(options), "format": "gif"}
        job = client.post("/v1/jobs", data=data, files=video)
        assert job.status_code == 202 and job.headers["location"] == f"/v1/jobs/{job.json()['id']}"
        done = ended(client, job.json()["id"])
        assert (done["state"], done["frames"], done["error"]) == ("done", 2, "")
        for query in ("", "?compare=true"):
            result = client.get(done["result"] + query)
            assert result.headers["content-type"] == "image/gif" and result.content[:6] == b"GIF89a"

        template = client.post("/v1/jobs", json={"kind": "template", "driving": [source["id"]]}).json()
        motion = tmp_path / "motion.safetensors"
        motion.write_bytes(client.get(ended(client, template["id"])["result"]).content)
        assert len(read_template(motion)) == 1

        edit = {"kind": "edit", "source": source["id"], "options": '{"copy": 0.5}'}
        face = {"expression-from": ("smile.png", (files / "me.png").read_bytes())}
        edited = ended(client, client.post("/v1/jobs", data=edit, files=face).json()["id"])
        (tmp_path / "edited.png").write_bytes(client.get(edited["result"]).content)
        assert load_image(tmp_path / "edited.png").shape == (150, 150, 3)

        counted = client.get("/metrics").text
        for line in (
            "liveportrait_frames_total 4.0",
            'liveportrait_jobs_total{kind="edit",state="done"} 1.0',
            'liveportrait_stage_seconds_count{stage="render"} 2.0',
            "liveportrait_jobs_waiting 0.0",
        ):
            assert line in counted
        assert client.delete(edited["result"].removesuffix("/result")).json()["state"] == "expired"
        assert client.get(edited["result"]).status_code == 410
        assert len(list((tmp_path / "data/results").iterdir())) == 3
        assert len(list((tmp_path / "data/uploads").iterdir())) == 2


def test_jobs_with_the_same_source_options_share_one_portrait(files, tmp_path):
    opened = []

    class Counting(Endless):
        def open(self, source, options, progress):
            opened.append((source.stem, options.crop_scale))
            return "open"

        def edit(self, source, out, options, progress):
            assert source == "open"
            raise UserError(f"{tmp_path / 'data/uploads'}/{opened[0][0]}.png shows no face")

    with started(tmp_path / "data", Counting()) as client:
        source = post_file(client, files / "me.png").json()["id"]
        for options in ({"smile": 1}, {"wink": 1}, {"crop-scale": 2}):
            asked = {"kind": "edit", "source": source, "options": options}
            failed = ended(client, client.post("/v1/jobs", json=asked).json()["id"])
            assert (failed["state"], failed["error"]) == ("failed", "me.png shows no face")
    assert opened == [(source, 2.3), (source, 2.0)]


def test_a_full_queue_refuses_at_once_and_cancelling_frees_a_place(files, tmp_path):
    animator = Endless()
    with started(tmp_path, animator, limits=Limits(queue=2)) as client:
        source = post_file(client, files / "me.png").json()["id"]
        ids = []
        edit = {"kind": "edit", "source": source}
        for number in range(3):
            key = {"Idempotency-Key": f"{number}"}
            ids.append(client.post("/v1/jobs", json=edit, headers=key).json()["id"])
            assert animator.began.wait(60)
        began = time.monotonic()
        full = client.post("/v1/jobs", data={"kind": "edit"}, files={"source": ("big.png", bytes(2**20))})
        assert time.monotonic() - began < 5  # it waited for no place, as none gets free
        assert full.status_code == 429 and 1 <= int(full.headers["retry-after"]) <= 600
        assert "try again in" in full.json()["detail"]
        assert client.get(f"/v1/jobs/{ids[2]}").json()["before"] == 1
        repeated = client.post("/v1/jobs", json=edit, headers={"Idempotency-Key": "2"})
        assert repeated.status_code == 202 and repeated.json()["id"] == ids[2]
        assert client.get(f"/v1/jobs/{ids[0]}/result").status_code == 409
        for job in reversed(ids):
            client.delete(f"/v1/jobs/{job}")
        assert [ended(client, job)["state"] for job in ids] == ["cancelled"] * 3
        assert time.monotonic() - began < 30
        assert 'liveportrait_refusals_total{status="429"} 1.0' in client.get("/metrics").text


def test_a_token_is_required_and_sees_only_its_own_jobs(files, tmp_path):
    path = tmp_path / "tokens"
    path.write_text("# for the web shop\n" + "\n".join(TOKENS))
    with started(tmp_path / "data", Endless(), tokens=path) as client:
        refused = client.get("/v1/motions")
        assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"
        assert "token" in refused.json()["detail"]
        assert client.get("/v1/motions", headers={"Authorization": f"Bearer {TOKENS[0]}x"}).status_code == 401
        assert client.get("/metrics").status_code == 401 and client.get("/healzth").status_code == 404
        mine, other = ({"headers": {"Authorization": f"Bearer {token}"}} for token in TOKENS)
        assert "smile" in client.get("/v1/motions", **mine).json()
        source = post_file(client, files / "me.png", **mine).json()["id"]
        job = client.post("/v1/jobs", json={"kind": "edit", "source": source}, **mine).json()["id"]
        for method, place in (("GET", ""), ("GET", "/events"), ("GET", "/result"), ("DELETE", "")):
            assert client.request(method, f"/v1/jobs/{job}{place}", **other).status_code == 404
        assert client.delete(f"/v1/jobs/{job}", **mine).status_code == 202
        assert ended(client, job, **mine)["state"] == "cancelled"
    path.write_text("short")
    with pytest.raises(UserError, match=r"token 1 of .* is too easy to guess"):
        create_application(ServerSettings(data=tmp_path / "data", tokens=path))


def test_cross_origin_requests_are_refused(tmp_path):
    with started(tmp_path, Endless()) as client:
        for headers in (
            {"Origin": "https://evil.example"},
            {"Host": "evil.example:8000"},
            {"Origin": "null"},
        ):
            refused = client.post("/v1/jobs", json={}, headers=headers)
            assert refused.status_code == 403 and refused.json()["detail"]
        for host in ("127.0.0.1:8000", "localhost", "[::1]:80", "[::1]"):
            asked = client.get("/v1/motions", headers={"Origin": f"http://{host}", "Host": host})
            assert asked.status_code == 200


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


@pytest.mark.parametrize(
    "name", ["../../etc/me.png", "/etc/cron.d/me", "..\\..\\me.png", "a\0b.png", "..", ".png"]
)
def test_an_upload_name_is_never_used_as_a_path(files, tmp_path, name):
    with started(tmp_path / "data", Endless()) as client:
        source = post_file(client, files / "me.png", name).json()
        assert "/" not in source["name"] and "\\" not in source["name"] and source["name"].strip(".")
    (kept,) = (tmp_path / "data/uploads").iterdir()
    assert kept.stem == source["id"] and kept.suffix in (".png", "")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_unusable_files_are_refused_and_not_kept(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_image(tmp_path / "wide.png", np.zeros((300, 400, 3), np.uint8))
    (tmp_path / "attack.pkl").write_bytes(pickle.dumps(Attack()))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.mp4").write_bytes((files / "driving.mp4").read_bytes()[:-500])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "wide.json").write_bytes((tmp_path / "wide.png").read_bytes())
    write_video(tmp_path / "wide.mp4", [np.zeros((300, 400, 3), np.uint8)])
    noise = np.random.default_rng(0).integers(0, 255, (100, 200, 3), np.uint8)
    save_image(tmp_path / "heavy.png", noise)
    limits = Limits(max_pixels=90_000, max_bytes=50_000, max_frames=1)
    with started(tmp_path / "data", Endless(), limits=limits) as client:
        for path, status, told in (
            ("wide.png", 413, "wide.png has 400x300 px, over the limit of 90000"),
            ("wide.mp4", 413, "wide.mp4 has 400x300 px, over the limit of 90000"),
            ("wide.json", 415, "wide.json is not JSON"),
            ("attack.pkl", 415, "attack.pkl"),
            ("text.png", 415, "text.png is neither a picture"),
            ("cut.mp4", 415, "cut.mp4"),
            ("empty.png", 415, "empty.png is empty"),
            ("heavy.png", 413, "heavy.png is larger than the limit of 50000 bytes"),
            (files / "talk.safetensors", 413, "talk.safetensors has 2 frames"),
        ):
            refused = post_file(client, tmp_path / path)
            assert refused.status_code == status and told in refused.json()["detail"], refused.text
            assert str(tmp_path) not in refused.text
        long = client.post(
            "/v1/jobs", content=b"[" * (2**20 + 1), headers={"Content-Type": "application/json"}
        )
        assert long.status_code == 413
        big = client.post("/v1/sources", headers={"Content-Length": "9999999"}, content=b"x")
        assert big.status_code == 413 and "9999999 bytes" in big.json()["detail"]
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        endless = client.post("/v1/sources", headers=kind, content=(b"--b\r\n" for _ in range(10**6)))
        assert endless.status_code == 413 and "is longer than" in endless.json()["detail"]
    assert not (tmp_path / "attacked").exists() and not list((tmp_path / "data/uploads").iterdir())


def test_invalid_jobs_are_refused_with_a_clear_message(files, tmp_path):
    with started(tmp_path, Endless()) as client:
        source = post_file(client, files / "me.png").json()["id"]
        edit = {"kind": "edit", "source": source}
        for asked, status, told in (
            ({"kind": "paint"}, 422, "kind"),
            ({"kind": "edit", "extra": 1}, 422, "extra"),
            ([], 422, "the body"),
            ({"kind": "edit"}, 422, "SOURCE is missing"),
            (edit | {"source": "../jobs.sqlite3"}, 422, "there is no file ../jobs.sqlite3 here"),
            (edit | {"driving": ["smile"]}, 422, "leave it out"),
            (edit | {"options": {"smile": 9}}, 422, "smile is 9"),
            (edit | {"options": {"grin": "wide"}}, 422, "grin is 'wide': choose a number"),
            (edit | {"options": {"expression-from": "/etc/passwd"}}, 422, "expression-from is a file"),
            (edit | {"files": {"smile": source}}, 422, "edit takes no file named smile"),
            (edit | {"format": "../x"}, 422, "format is '../x'"),
            (edit | {"format": ".exe"}, 422, "the result.exe ends in '.exe'"),
            (edit | {"format": "mp4"}, 422, "choose one of .jpg"),
            (edit | {"options": {"alpha": True}, "format": "jpg"}, 422, "transparency"),
            ({"kind": "template", "driving": ["smile"], "format": "mp4"}, 422, "as .safetensors"),
        ):
            refused = client.post("/v1/jobs", json=asked)
            assert refused.status_code == status and told in refused.json()["detail"], refused.text
            assert str(tmp_path) not in refused.text
        for sent, status in (
            ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 422),
            ({"content": b"[" * 10**5, "headers": {"Content-Type": "application/json"}}, 422),
            ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
            ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400),
            ({"data": {"kind": "edit", "options": "{"}, "files": {"nothing": b""}}, 422),
        ):
            refused = client.post("/v1/jobs", **sent)
            assert refused.status_code == status and refused.json()["detail"], refused.text
        assert client.post("/v1/sources", data={"file": "text"}).status_code == 422
        assert client.get("/v1/jobs/none").status_code == 404
        assert client.get("/v1/sources/none").status_code == 404
        assert Path(tmp_path / "results").exists() and not list((tmp_path / "results").iterdir())


def test_results_and_uploads_expire(files, tmp_path):
    with started(tmp_path, Endless(), limits=Limits(keep_hours=1e-9)) as client:
        source = post_file(client, files / "me.png").json()["id"]
        job = client.post("/v1/jobs", json={"kind": "edit", "source": source}).json()["id"]
        service = client.app.state.service
        service.tidy()
        assert (tmp_path / f"uploads/{source}.png").exists()  # a job still needs it
        client.delete(f"/v1/jobs/{job}")
        assert ended(client, job)["state"] == "cancelled"
        service.tidy()
        assert not list((tmp_path / "uploads").iterdir())
        assert client.get(f"/v1/jobs/{job}/result").status_code in (404, 410)
        assert client.get(f"/v1/sources/{source}").status_code == 404


def test_a_portrait_speaks_a_sound_or_a_text(animator, files, tmp_path, monkeypatch):
    reader(tmp_path, monkeypatch)
    hum, video = tmp_path / "hum.wav", files / "driving.mp4"
    with started(tmp_path / "data", animator, limits=Limits(max_seconds=1)) as client:
        source = post_file(client, files / "me.png").json()["id"]
        sound = post_file(client, hum).json()
        assert (sound["kind"], sound["seconds"], sound["frames"], sound["width"]) == ("sound", 0.2, 0, 0)
        data = {"kind": "speak", "source": source, "options": '{"fps": 10, "head": "still", "seed": 4}'}
        said = client.post("/v1/jobs", data=data, files={"driving": ("hum.wav", hum.read_bytes())})
        done = ended(client, said.json()["id"])
        assert (done["state"], done["frames"], done["error"]) == ("done", 2, "")
        (tmp_path / "said.mp4").write_bytes(client.get(done["result"]).content)
        assert count_speech_samples(tmp_path / "said.mp4") > 0.1 * SPEECH_RATE
        options = {"text": "Hello.", "fps": 5}
        read = {"kind": "speak", "source": source, "options": options, "files": {"head": "smile"}}
        assert ended(client, client.post("/v1/jobs", json=read).json()["id"])["state"] == "done"

        speak = {"kind": "speak", "source": source}
        long = sound_file(tmp_path / "long.wav", np.zeros((17000, 1)), 16000)
        assert post_file(client, long).status_code == 413
        silent = post_file(client, video).json()["id"]
        failed = ended(client, client.post("/v1/jobs", json=speak | {"driving": [silent]}).json()["id"])
        assert (
            failed["state"] == "failed"
            and failed["error"] == "driving.mp4 has no sound: name a file in which somebody speaks"
        )
        for asked, told in (
            (speak, "give either SPEECH"),
            (speak | {"driving": [sound["id"]], "options": {"text": "Hello."}}, "give either SPEECH"),
            (speak | {"options": {"text": "Hello.", "voice": "/etc/passwd"}}, "name an espeak-ng voice"),
            (speak | {"options": {"text": "Hello.", "head": "/etc/passwd"}}, "head is a file"),
            (speak | {"options": {"text": "Hello.", "style": "me.mp4"}}, "style is a file"),
            (speak | {"options": {"text": "Hello." * 10}}, "has 60 characters: at most 20 are accepted"),
            (speak | {"options": {"text": "Hello.", "strength": 9}}, "strength is 9"),
            (speak | {"driving": [sound["id"]], "format": "png"}, "choose one of .mp4"),
        ):
            refused = client.post("/v1/jobs", json=asked)
            assert refused.status_code == 422 and told in refused.json()["detail"], refused.text
        monkeypatch.setenv("PATH", "")
        refused = client.post("/v1/jobs", json=speak | {"options": {"text": "Hello."}})
        assert "no speech engine was found" in refused.json()["detail"]


def test_openapi_shows_an_example_of_every_body(tmp_path):
    schema = create_application(ServerSettings(data=tmp_path)).openapi()
    posts = [operations["post"] for operations in schema["paths"].values() if "post" in operations]
    assert len(posts) == 3
    for post in posts:
        assert all(content["example"] for content in post["requestBody"]["content"].values())
    assert schema["components"]["schemas"]["JobView"]["properties"]["step"]["examples"] == ["animate"]
