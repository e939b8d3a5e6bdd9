"""The service's settings, chosen by whoever runs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from liveportrait.apps.animate import LoadOptions
from liveportrait.errors import UserError
from liveportrait.folders import user_cache

ALWAYS_MARKED = "this service always marks its results as generated: leave out no-mark"


@dataclass(frozen=True)
class Limits:
    """Limits on what callers may ask for, checked before any work starts."""

    max_bytes: int = 256 * 2**20
    """maximum size of an uploaded file, bytes"""
    max_pixels: int = 50_000_000
    """maximum width times height of a picture or a video frame"""
    max_seconds: float = 300.0
    """maximum duration of an uploaded video or motion, seconds"""
    max_frames: int = 18_000
    """maximum number of frames of an uploaded video or motion"""
    job_seconds: float = 3600.0
    """maximum running time of a job, seconds; a job that takes longer fails"""
    queue: int = 16
    """how many jobs may wait; more are refused with status 429 and a time to retry after"""
    keep_hours: float = 24.0
    """how many hours results and unused uploads are kept"""
    always_mark: bool = False
    """refuse jobs and streams that ask for no-mark (see docs/guide/marking.md)"""

    def __post_init__(self) -> None:
        """Raise `UserError` for a limit that is not positive."""
        for name, value in vars(self).items():
            if not isinstance(value, bool) and not value > 0:
                raise UserError(f"{name.replace('_', '-')} is {value}: choose a number above 0")


@dataclass(frozen=True)
class LiveLimits:
    """Limits on the requests of a live stream."""

    sessions: int = 4
    """maximum number of concurrent streams; each has a thread that renders"""
    frame_bytes: int = 4 * 2**20
    frame_pixels: int = 4_000_000
    photo_bytes: int = 15 * 2**20
    photo_pixels: int = 50_000_000
    photos: int = 8
    """uploaded photos that a stream keeps"""
    silence: float = 30.0
    """seconds after which a stream that sends nothing is closed"""
    always_mark: bool = False
    """refuse options with no-mark"""

    def __post_init__(self) -> None:
        """Raise `UserError` for a negative number of streams."""
        if self.sessions < 0:
            raise UserError(f"live-sessions is {self.sessions}: choose 0 or more concurrent streams")


@dataclass(frozen=True)
class ClusterSettings:
    """The Ray cluster that runs the jobs, instead of the service's own process."""

    address: str
    """of the cluster; auto finds it, local starts one on this machine"""
    replicas: int | None = None
    """maximum number of processes; None means one per GPU or, without GPUs, one per four CPUs"""
    idle_replicas: int = 1
    """processes kept when there is nothing to do"""

    def __post_init__(self) -> None:
        """Raise `UserError` for a number out of range."""
        for name in ("replicas", "idle_replicas"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name.replace('_', '-')} is {value}: choose at least 1")


@dataclass(frozen=True)
class ServerSettings:
    """Settings of the service: its address, files and networks, and the limits of its callers."""

    data: Path = field(default_factory=lambda: user_cache("LIVEPORTRAIT_DATA", "service"))
    """folder for uploads, results and the job table, used by one service at a time"""
    host: str = "127.0.0.1"
    port: int = 8000
    tokens: Path | None = None
    """a file with one bearer token per line; None admits everyone who can reach the port"""
    networks: LoadOptions = field(default_factory=LoadOptions)
    limits: Limits = field(default_factory=Limits)
    live: LiveLimits = field(default_factory=LiveLimits)
    jobs: int = 1
    """how many run at once"""
    cluster: ClusterSettings | None = None
    """what runs the jobs; None is the service itself"""
    end_seconds: float = 0.0
    """how many seconds running jobs may continue when the service is told to stop; unfinished ones run at the
    next start"""

    def __post_init__(self) -> None:
        """Raise `UserError` for a number out of range."""
        if not 0 <= self.port <= 65535:
            raise UserError(f"port is {self.port}: choose a number from 0 (any free one) to 65535")
        if self.jobs < 1:
            raise UserError(f"jobs is {self.jobs}: choose at least 1")

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach the service."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
