"""Inputs for the commands that `kill_anywhere.py` kills."""

from __future__ import annotations

import sys
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
from skimage.data import astronaut

from liveportrait.apps.server.settings import Limits
from liveportrait.apps.server.store import JobStore, Record
from liveportrait.apps.server.uploads import Uploads
from liveportrait.media import VideoWriter, save_image
from liveportrait.motion.templates import Template, bundled_templates, write_template

TESTS = Path(__file__).parents[1] / "tests"
SIDE, FRAMES = 256, 12  # px and frames of the video
MOTION_FRAMES = 16  # of a template, which needs no face detection
JOBS = ("first", "second")  # ids of the service's jobs


def make_inputs(folder: Path) -> None:
    """Write a portrait, a video, a template, a table of jobs, a shard and a training configuration into a folder."""
    portrait = np.ascontiguousarray(astronaut()[:SIDE, 96 : 96 + SIDE])
    save_image(folder / "portrait.png", portrait)
    with VideoWriter(folder / "video.mp4", Fraction(25), SIDE, SIDE) as writer:
        for number in range(FRAMES):
            writer.write(np.roll(portrait, number, 0))
    blink = bundled_templates()["blink"]
    template = Template(blink.motion.rows(range(MOTION_FRAMES)), blink.fps, blink.layout)
    write_template(folder / "blink.safetensors", template)
    jobs = "source,smile,name\nportrait.png,0.3,portrait\nportrait.png,0.4,second\n"
    (folder / "jobs.csv").write_text(jobs)
    sys.path.append(str(TESTS))
    from synthetic_shards import TRAINING, make_shard

    (folder / "training.toml").write_text(TRAINING.format(samples=24))
    make_shard(folder / "a.tar", clips=4, pictures=4)


def queue_jobs(data: Path, inputs: Path) -> None:
    """Queue jobs for a service that has not been started yet."""
    data.mkdir()
    store = JobStore(data / "jobs.sqlite3")
    uploads = Uploads(data / "uploads", store, Limits())
    portrait, _ = uploads.keep(BytesIO((inputs / "portrait.png").read_bytes()), "portrait.png")
    for number, job in enumerate(JOBS):
        store.add(Record(job, "edit", portrait.id, (), {"smile": 0.3 + number / 10}, ".png"), 9)
    store.close()
