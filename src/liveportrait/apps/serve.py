"""`liveportrait serve`: the service for other programs."""

from __future__ import annotations

import math
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, arg

from liveportrait.apps.animate import LoadOptions
from liveportrait.apps.server.settings import ClusterSettings, Limits, LiveLimits, ServerSettings
from liveportrait.apps.terminal import GRACE_S, Stopped, end_at_once
from liveportrait.errors import UserError

if TYPE_CHECKING:
    from fastapi import FastAPI

BACKLOG = 2048  # connections waiting to be accepted


@dataclass(frozen=True)
class Serve:
    """Run the HTTP service, to which other programs post portraits and jobs (see docs/guide/service.md)."""

    host: str = "127.0.0.1"
    """the address to listen on: 127.0.0.1 accepts only this machine's programs, 0.0.0.0 accepts everyone"""
    port: int = 8000
    """the port to listen on; 0 picks a free one"""
    data: Path | None = None
    """folder for uploads, results and the job table; by default in the user's cache"""
    tokens: Path | None = None
    """a file with one bearer token per line; callers must send one of them"""
    jobs: int = 1
    """how many jobs run at once"""
    live_sessions: int = 4
    """how many live streams run at once, each in its own thread"""
    end_seconds: float = 0.0
    """how many seconds running jobs may continue when the service is told to stop; unfinished ones run at the
    next start"""
    ray: Annotated[str | None, arg(metavar="ADDRESS")] = None
    """run the jobs on a Ray cluster: its address, auto to find it, or local to start one on this machine"""
    replicas: int | None = None
    """with --ray, the maximum number of processes, in place of --jobs; by default one per GPU of the cluster, or
    one per four CPUs without GPUs"""
    idle_replicas: int = 1
    """with --ray, how many processes stay up when idle"""
    networks: OmitArgPrefixes[LoadOptions] = field(default_factory=LoadOptions)
    limits: OmitArgPrefixes[Limits] = field(default_factory=Limits)

    def run(self) -> None:
        """Serve until a signal."""
        if not self.ray and (self.replicas, self.idle_replicas) != (None, 1):
            raise UserError("replicas need a cluster: name one with --ray, or use --jobs instead")
        chosen = {} if self.data is None else {"data": self.data}
        settings = ServerSettings(
            **chosen,
            host=self.host,
            port=self.port,
            tokens=self.tokens,
            networks=self.networks,
            limits=self.limits,
            live=LiveLimits(self.live_sessions),
            jobs=self.jobs,
            cluster=ClusterSettings(self.ray, self.replicas, self.idle_replicas) if self.ray else None,
            end_seconds=self.end_seconds,
        )
        serve(settings)


def serve(
    settings: ServerSettings,
    extend: Callable[[FastAPI], None] | None = None,
    on_listening: Callable[[str], object] | None = None,
) -> None:
    """Run the service until a signal; event streams then end, and running jobs get their time.

    `extend` may add to the application, `on_listening` is called with its address. Raises `UserError` if the service
    cannot start.
    """
    try:
        import uvicorn

        from liveportrait.apps.server.application import create_application
    except ImportError as error:
        raise UserError(
            f"the service needs {error.name}, which is missing: pip install 'liveportrait[serve]'"
        ) from error
    with listening(settings.host, settings.port) as listener, ExitStack() as stack:
        make = None
        if settings.cluster:
            from liveportrait.apps.server.replicas import replicas

            there = stack.enter_context(replicas(settings, settings.cluster))
            settings, make = replace(settings, jobs=there.most, data=settings.data.absolute()), there.make
        # Opens the folder first: a second service on it is refused before the networks load.
        application = create_application(settings, make=make)
        service = application.state.service
        if extend:
            extend(application)
        service.animator()
        for note in _notes(settings):
            print(f"note: {note}", file=sys.stderr)

        class Server(uvicorn.Server):
            """Ends the service at once, since uvicorn waits for all connections first."""

            late = threading.Timer(0, end_at_once)

            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                service.end()
                if not self.late.is_alive():  # end_seconds for connections, then again for jobs
                    self.late = threading.Timer(
                        2 * settings.end_seconds + GRACE_S, end_at_once, (Stopped(sig),)
                    )
                    self.late.daemon = True
                    self.late.start()
                super().handle_exit(sig, frame)

        address = address_of(listener)
        print(f"serving on {address}, described at /openapi.json", flush=True)
        if on_listening:
            on_listening(address)
        config = uvicorn.Config(
            application,
            timeout_graceful_shutdown=max(math.ceil(settings.end_seconds), 1),
            log_level="warning",
            log_config=None,  # uvicorn's own would close other libraries' handlers and their streams
        )
        server = Server(config)
        try:
            server.run(sockets=[listener])
        finally:
            server.late.cancel()


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket for the duration of the block. Raises `UserError` if the address is unavailable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            if os.name == "posix":  # on Windows it would let two programs share the port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host.strip("[]"), port))
            listener.listen(BACKLOG)
        except OSError as error:
            raise UserError(
                f"cannot listen on {host}:{port} ({error.strerror}): choose another --port or --host"
            ) from error
        yield listener


def address_of(listener: socket.socket) -> str:
    """The URL of a listening socket, for a browser on this machine."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _notes(settings: ServerSettings) -> Iterator[str]:
    """Warnings for whoever starts the service."""
    from liveportrait.apps.server.access import permissions_note

    if settings.tokens and (note := permissions_note(settings.tokens)):
        yield note
    if not settings.is_local and not settings.tokens:
        yield f"anyone who can reach {settings.host}:{settings.port} may use this service: give --tokens"
