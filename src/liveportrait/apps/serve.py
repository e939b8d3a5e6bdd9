"""`liveportrait serve`: the service for other programs."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import OmitArgPrefixes

from liveportrait.apps.animate import LoadOptions
from liveportrait.apps.server.settings import Limits, LiveLimits, ServerSettings
from liveportrait.errors import UserError


@dataclass(frozen=True)
class Serve:
    """Run the service: other programs post portraits and jobs over HTTP (see docs/guide/service.md)."""

    host: str = "127.0.0.1"
    """the address to listen on: only this machine's own programs reach 127.0.0.1, and 0.0.0.0 is open to all"""
    port: int = 8000
    """the port to listen on; 0 takes a free one"""
    data: Path | None = None
    """folder of uploads, results and the table of jobs; by default in the user's cache"""
    tokens: Path | None = None
    """a file with a bearer token a line: callers have to name one"""
    jobs: int = 1
    """how many jobs run at once"""
    live_sessions: int = 4
    """how many live streams run at once, each in a thread of its own"""
    end_seconds: float = 20.0
    """for which running jobs may go on when the service is told to end; then they wait for its next start"""
    networks: OmitArgPrefixes[LoadOptions] = field(default_factory=LoadOptions)
    limits: OmitArgPrefixes[Limits] = field(default_factory=Limits)

    def run(self) -> None:
        """Serve until a signal asks to end."""
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
            end_seconds=self.end_seconds,
        )
        serve(settings)


def serve(settings: ServerSettings) -> None:
    """Run the application until a signal asks to end. Raises `UserError` where it cannot start."""
    try:
        import uvicorn

        from liveportrait.apps.server.application import create_application
    except ImportError as error:
        raise UserError(
            f"the service needs {error.name}, which is missing: pip install 'liveportrait[serve]'"
        ) from error
    if not settings.is_local and not settings.tokens:
        print(
            f"note: whoever reaches {settings.host}:{settings.port} may use this service: give --tokens",
            file=sys.stderr,
        )
    application = create_application(settings, settings.networks.load())
    uvicorn.run(application, host=settings.host, port=settings.port, timeout_graceful_shutdown=5)
