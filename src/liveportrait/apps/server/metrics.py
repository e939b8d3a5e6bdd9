"""The service's metrics, in a registry of their own; Prometheus reads them from /metrics."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_JOB_SECONDS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_STAGE_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_ANSWER_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)


class Metrics:
    """The counters of one application."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.waiting = Gauge("liveportrait_jobs_waiting", "Jobs in the queue.", registry=registry)
        self.running = Gauge("liveportrait_jobs_running", "Jobs being run.", registry=registry)
        self.jobs = Counter(
            "liveportrait_jobs", "Finished jobs, by final state.", ("kind", "state"), registry=registry
        )
        self.wait = Histogram(
            "liveportrait_wait_seconds",
            "From a job's arrival to its start.",
            buckets=_JOB_SECONDS,
            registry=registry,
        )
        self.work = Histogram(
            "liveportrait_work_seconds",
            "From a job's start to its result.",
            ("kind",),
            buckets=_JOB_SECONDS,
            registry=registry,
        )
        self.stages = Histogram(
            "liveportrait_stage_seconds",
            "Seconds per frame of a stage, averaged over each job.",
            ("stage",),
            buckets=_STAGE_SECONDS,
            registry=registry,
        )
        self.frames = Counter("liveportrait_frames", "Frames of finished jobs.", registry=registry)
        self.refusals = Counter(
            "liveportrait_refusals", "Requests refused, by status.", ("status",), registry=registry
        )
        self.uploads = Counter("liveportrait_upload_bytes", "Bytes of new uploads.", registry=registry)
        self.answers = Histogram(
            "liveportrait_answer_seconds",
            "From a request to the start of its response.",
            ("method", "status"),
            buckets=_ANSWER_SECONDS,
            registry=registry,
        )

    def count_stages(self, seconds: Mapping[str, float], frames: int) -> None:
        """Count a finished job's frames and the total seconds of each stage."""
        self.frames.inc(frames)
        for stage, spent in seconds.items():
            if spent > 0:
                self.stages.labels(stage).observe(spent / max(frames, 1))

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)
