"""What the routes of the application share: one animator, one folder of files, one queue of jobs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from liveportrait.apps.server.settings import ServerSettings

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator


class Service:
    """Everything behind the routes. Its methods may be called from any thread."""

    def __init__(self, settings: ServerSettings, animator: Animator | None = None) -> None:
        self.settings = settings
        self._animator = animator
        self._loading = threading.Lock()

    @property
    def is_loaded(self) -> bool:
        """Whether the networks are there."""
        return self._animator is not None

    def animator(self) -> Animator:
        """The animator; the first call loads it, which takes seconds. Raises `UserError`."""
        with self._loading:
            if self._animator is None:
                self._animator = self.settings.networks.load()
            return self._animator
