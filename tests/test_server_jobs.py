"""The service's jobs: each runs exactly once, to a result or a reported failure, however the process ends."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from fractions import Fraction

import pytest
from left_behind import leave_behind

from liveportrait import Report, UserError
from liveportrait.apps.server.metrics import Metrics
from liveportrait.apps.server.settings import Limits, ServerSettings
from liveportrait.apps.server.store import JobStore, QueueFull, Record, Upload
from liveportrait.apps.server.workers import MAX_ATTEMPTS, Workers


class Work:
    """A stand-in for the animator: writes what the options say, or runs until it is stopped."""

    def __init__(self):
        self.done = []
        self.began = threading.Event()

    def __call__(self, record, out, progress):
        out.write_text(record.options["text"])
        if record.options["text"] == "endless":
            self.began.set()
            while True:
                progress("animate", 1, None)
                time.sleep(0.01)
        if record.options["text"] == "wrong":
            raise UserError("me.png shows no face")
        if record.options["text"] == "broken":
            raise ZeroDivisionError
        self.done.append(record.id)
        return Report(out, 2, Fraction(25), notes=("a note",))


def record(job, text="fine", **known):
    return Record(job, "edit", "source", (), {"text": text}, ".txt", **known)


@pytest.fixture
def opened(tmp_path):
    """A function that opens the folder as a process does at its start; everything it opened is closed afterwards."""
    at_work = []

    def open_folder(**settings):
        settings = ServerSettings(data=tmp_path, end_seconds=0.01, **settings)
        store = JobStore(tmp_path / "jobs.sqlite3")
        work = Work()
        workers = Workers(settings, store, tmp_path / "results", work, Metrics())
        at_work.append((store, workers))
        return store, workers, work

    yield open_folder
    for store, workers in at_work:
        workers.stop()
        store.close()


def wait_for(store, job, *states):
    end = time.monotonic() + 60
    while (found := store.job(job)).state not in states:
        assert time.monotonic() < end, found
        time.sleep(0.01)
    return found


def test_jobs_run_in_order_and_each_reports_its_own_outcome(opened, tmp_path):
    store, workers, work = opened()
    for job, text in (("a", "fine"), ("b", "wrong"), ("c", "broken"), ("d", "fine")):
        store.add(record(job, text), limit=9)
    workers.start()
    assert wait_for(store, "d", "done").notes == ("a note",)
    assert work.done == ["a", "d"] and (tmp_path / "results/a.txt").read_text() == "fine"
    assert [(store.job(job).state, store.job(job).error) for job in "abc"] == [
        ("done", ""),
        ("failed", "me.png shows no face"),
        ("failed", "something went wrong in this job (ZeroDivisionError): see the service's log"),
    ]
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["a.txt", "d.txt"]


def test_a_cancelled_or_overdue_job_stops(opened, tmp_path):
    store, workers, work = opened(limits=Limits(job_seconds=0.3))
    for job in "abc":
        store.add(record(job, "endless"), limit=9)
    workers.start()
    assert work.began.wait(60)
    workers.cancel("b")
    workers.cancel("a")
    wait_for(store, "a", "cancelled")
    assert store.job("b").state == "cancelled" and store.job("b").attempts == 0
    assert "longer than the limit of 0.3 s" in wait_for(store, "c", "failed").error
    assert list((tmp_path / "results").iterdir()) == []


def test_jobs_interrupted_by_shutdown_return_to_the_queue(opened, tmp_path):
    store, workers, work = opened()
    store.add(record("a", "endless"), limit=9)
    store.add(record("b"), limit=9)
    workers.start()
    assert work.began.wait(60)
    workers.stop()
    assert [(each.id, each.attempts) for each in store.jobs("queued")] == [("a", 0), ("b", 0)]
    assert list((tmp_path / "results").iterdir()) == [] and not work.done


def test_jobs_of_a_killed_process_run_exactly_once(opened, tmp_path):
    """The process died at every stage of a job: before the result, after it, and too often."""
    store, workers, _ = opened()
    for job in ("renamed", "written", "deadly", "waiting"):
        store.add(record(job), limit=9)
        if job != "waiting":
            store.claim()
    store.change("deadly", "running", attempts=MAX_ATTEMPTS)
    (tmp_path / "results/renamed.txt").write_text("kept")
    leave_behind(tmp_path / "results")
    store.close()

    store, workers, work = opened()
    workers.start()
    wait_for(store, "waiting", "done")
    assert work.done == ["written", "waiting"] and store.job("written").attempts == 2
    assert store.job("renamed").state == "done" and (tmp_path / "results/renamed.txt").read_text() == "kept"
    assert "ended 3 times during this job" in store.job("deadly").error
    assert not list((tmp_path / "results").glob(".*"))


def test_only_one_process_can_open_the_job_table(tmp_path):
    store = JobStore(tmp_path / "jobs.sqlite3")
    with pytest.raises(UserError, match="in use by another service"):
        JobStore(tmp_path / "jobs.sqlite3")
    store.close()
    (tmp_path / "jobs.sqlite3").write_bytes(b"no table" * 1000)
    with pytest.raises(UserError, match="not a job table"):
        JobStore(tmp_path / "jobs.sqlite3")


def test_the_queue_is_bounded_and_old_jobs_are_deleted(tmp_path):
    store = JobStore(tmp_path / "jobs.sqlite3")
    store.add(record("a"), limit=2)
    store.add(record("b"), limit=2)
    with pytest.raises(QueueFull):
        store.add(record("c"), limit=2)
    assert store.place("b") == 1 and store.claim().id == "a" and store.place("b") == 0
    for name in ("source", "unused"):
        store.add_upload(Upload(name, "me.png", ".png", "picture", 9, used=time.time() - 100))
    assert [upload.id for upload in store.take_unused(time.time() - 50)] == ["unused"]
    assert store.upload("source").used > time.time() - 50 and store.upload("unused") is None
    assert store.change("a", "running", state="done", ended=time.time() - 100)
    assert not store.change("a", "running", state="failed")
    assert [each.id for each in store.expire(time.time() - 50)] == ["a"] and store.job("a").state == "expired"
    store.expire(time.time() - 49)
    assert store.job("a") is None
    assert store.job("b") == replace(record("b"), created=store.job("b").created)
    store.close()
