"""The service: files, jobs, their progress and results, refusals; one application with a tiny animator."""

from __future__ import annotations

import json
import time

import pytest
from animation_samples import bundled_networks, driving_frames, portrait, write_video
from fastapi.testclient import TestClient

from liveportrait import Animator
from liveportrait.apps.server.application import create_application
from liveportrait.apps.server.settings import Limits, ServerSettings
from liveportrait.engine import Engine
from liveportrait.media import load_image, save_image
from liveportrait.motion import bundled_templates, write_template
from liveportrait.motion.templates import Template


@pytest.fixture(scope="module")
def animator():
    return Animator(Engine(bundled_networks(), "fp32", backend="eager"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small photo, and a motion of two frames."""
    folder = tmp_path_factory.mktemp("files")
    save_image(folder / "me.png", portrait()[::2, ::2].copy())
    talk = next(iter(bundled_templates().values()))
    write_template(folder / "talk.safetensors", Template(talk.motion.rows([0, 1]), talk.fps, talk.layout))
    write_video(folder / "driving.mp4", driving_frames(2))
    return folder


@pytest.fixture
def client(animator, tmp_path):
    with started(animator, tmp_path / "data") as client:
        yield client


def started(animator, data, **settings):
    application = create_application(ServerSettings(data=data, **settings), animator)
    return TestClient(application, base_url="http://127.0.0.1:8000")


def ended(client, job):
    """The job once it has ended."""
    for _ in range(600):
        view = client.get(f"/v1/jobs/{job}").json()
        if view["state"] not in ("queued", "running"):
            return view
        time.sleep(0.05)
    raise AssertionError(view)


def test_a_portrait_is_posted_animated_followed_and_fetched(client, files, tmp_path):
    while client.get("/readyz").status_code != 200:
        time.sleep(0.01)
    posted = [
        client.post("/v1/sources", files={"file": ("../../me.png", (files / "me.png").read_bytes())})
        for _ in "ab"
    ]
    assert [each.status_code for each in posted] == [201, 200]
    source = posted[0].json()
    assert posted[1].json() == source and source["name"] == "me.png" and source["width"] == 150
    job = client.post(
        "/v1/jobs",
        data={"kind": "animate", "source": source["id"], "options": json.dumps({"lock-head": True})},
        files={"driving": ("talk.safetensors", (files / "talk.safetensors").read_bytes())},
    )
    assert job.status_code == 202, job.text
    with client.stream("GET", f"/v1/jobs/{job.json()['id']}/events") as events:
        lines = list(events.iter_lines())
    last = json.loads(lines[lines.index("event: end") + 1].removeprefix("data: "))
    assert last["state"] == "done" and last["frames"] == 2, last
    result = client.get(last["result"])
    assert result.headers["content-type"] == "video/mp4" and b"ftyp" in result.content[:16]
