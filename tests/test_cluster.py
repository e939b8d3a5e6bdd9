"""Jobs on a local Ray cluster: the same files as in one process, and no job lost with a replica."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from animation_samples import bundled_networks, driving_frames, portrait, write_video

from liveportrait import Animator
from liveportrait.apps.animate import LoadOptions
from liveportrait.apps.batches.manifest import read_manifest
from liveportrait.apps.batches.runner import JobRunner
from liveportrait.apps.cli import main
from liveportrait.apps.server.replicas import application_name, replicas
from liveportrait.apps.server.service import Service
from liveportrait.apps.server.settings import ClusterSettings, Limits, ServerSettings
from liveportrait.apps.server.store import QueueFull
from liveportrait.engine import Engine
from liveportrait.media import save_image
from liveportrait.motion import read_template

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two CPUs."""
    from ray.cluster_utils import Cluster

    running = Cluster(
        True, head_node_args={"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80_000_000}
    )
    yield running.address
    running.shutdown()


@pytest.fixture(scope="module")
def animator() -> Animator:
    return Animator(Engine(bundled_networks(), threads=1))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    save_image(folder / "face.png", portrait())
    save_image(folder / "mirror.png", portrait()[:, ::-1].copy())
    save_image(folder / "grey.png", np.full_like(portrait(), 128))
    write_video(folder / "driving.mp4", driving_frames(3))
    return folder


def replica_processes(data: Path) -> list[int]:
    """Processes of the replicas of the service on a data folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if application_name(data).encode() in name:
            found.append(int(folder.name))
    return found


def test_two_workers_write_the_same_files_as_one_process(
    address, animator, inputs, tmp_path, monkeypatch, capsys
):
    manifest = inputs / "manifest.csv"
    # GIF: x264 does not always write the same bytes for the same pictures (its code for AVX-512).
    manifest.write_text(
        "source,driving,name,smile,region,mark\nface.png,driving.mp4,face.gif,,,no\n"
        "mirror.png,driving.mp4,mirror.gif,,lips,no\nface.png,,,0.5,,no\n,driving.mp4,,,,\nface.png,,,0.2,,no\n"
    )
    monkeypatch.chdir(tmp_path)  # a different folder than the cluster's processes
    asked = [
        "batch",
        str(manifest),
        "-o",
        "there",
        "--ray",
        address,
        "--precision",
        "fp32",
    ]  # like the animator here
    assert main([*asked, "--jobs", "2"]) == 0
    runner = JobRunner(LoadOptions(), animator)
    (tmp_path / "here").mkdir()
    for row in read_manifest(manifest, tmp_path / "here", "compact"):
        assert runner.attempt(row.job).reason == ""
        there = tmp_path / "there" / row.name
        if row.job.kind == "template":
            ours, theirs = read_template(row.job.out), read_template(there)
            assert np.array_equal(ours.motion.expression, theirs.motion.expression)
        else:
            assert there.read_bytes() == row.job.out.read_bytes()
    assert main([*asked, "--jobs", "3"]) == 0
    assert "5 of 5 results are complete already" in capsys.readouterr().out


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds a replica's process through /proc")
def test_no_job_is_lost_with_a_killed_replica(address, animator, inputs, tmp_path, caplog):
    settings = ServerSettings(data=tmp_path, limits=Limits(queue=6))
    chosen = ClusterSettings(address, replicas=2, idle_replicas=2)
    with replicas(settings, chosen) as there:
        service = Service(replace(settings, jobs=there.most), animator, there.make)
        service.start()
        while service.why_not_ready:
            time.sleep(0.01)
        kept = {}
        for name in ("face.png", "driving.mp4", "grey.png"):
            with (inputs / name).open("rb") as file:
                kept[name] = service.keep(file, name)[0].id
        face, driving, grey = kept.values()
        jobs = [
            service.submit("animate", face, [driving], {"multiplier": 1 + number / 10}) for number in range(6)
        ]
        while sum(bool((ticket := service.workers.ticket(job.id)) and ticket.step) for job in jobs) < 2:
            time.sleep(0.01)
        os.kill(replica_processes(tmp_path)[0], signal.SIGKILL)
        with pytest.raises(QueueFull):
            for _ in range(7):
                jobs.append(service.submit("edit", grey, [], {"smile": 1}))
        end = time.monotonic() + 240
        while not all((record := service.store.job(job.id)) and record.is_finished for job in jobs):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert "lost a replica in attempt 1" in caplog.text
        records = [service.store.job(job.id) for job in jobs]
        for record in records[:6]:
            assert (record.state, record.error, record.attempts) == ("done", "", 1)
            assert service.workers.result(record).exists()
        for record in records[6:]:
            assert (
                record.state == "failed" and "no face" in record.error and str(tmp_path) not in record.error
            )
        service.stop()


def test_replicas_without_a_cluster_are_refused(capsys):
    assert main(["serve", "--replicas", "2"]) == 2
    assert "name one with --ray" in capsys.readouterr().err
