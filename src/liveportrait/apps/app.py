"""`liveportrait app`: the web page."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tyro.conf import OmitArgPrefixes

from liveportrait.apps.animate import LoadOptions
from liveportrait.apps.serve import serve
from liveportrait.apps.server.settings import Limits, ServerSettings
from liveportrait.errors import UserError
from liveportrait.folders import temporary_folder

if TYPE_CHECKING:
    from fastapi import FastAPI


@dataclass(frozen=True)
class App:
    """Open the web page: animate and edit portraits in a browser (see docs/guide/page.md)."""

    host: str = "127.0.0.1"
    """the address to listen on: 127.0.0.1 accepts only this machine's browsers, 0.0.0.0 accepts everyone"""
    port: int = 7860
    """the port to listen on; 0 picks a free one"""
    open: bool = True
    """open the page in this machine's browser; --no-open only prints its address"""
    networks: OmitArgPrefixes[LoadOptions] = field(default_factory=LoadOptions)
    limits: OmitArgPrefixes[Limits] = field(default_factory=Limits)

    def run(self) -> None:
        """Serve the page until a signal, then remove the visitors' files."""
        with temporary_folder() as folder:
            settings = ServerSettings(
                data=folder,
                host=self.host,
                port=self.port,
                networks=self.networks,
                limits=self.limits,
                end_seconds=0,
            )
            serve(settings, with_page, webbrowser.open if self.open else None)


def with_page(application: FastAPI) -> None:
    """Add the page to the service's application. Raises `UserError` if gradio is missing."""
    try:
        from liveportrait.apps.page.build import mount_page
    except ImportError as error:
        raise UserError(
            f"the page needs {error.name}, which is missing: pip install 'liveportrait[web]'"
        ) from error
    mount_page(application)
