"""`liveportrait live`: a portrait that follows a camera."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from tyro.conf import OmitArgPrefixes, Positional, arg

from liveportrait.animation.options import DriveOptions, SourceOptions
from liveportrait.apps.animate import LoadOptions
from liveportrait.apps.serve import serve
from liveportrait.apps.server.settings import ServerSettings
from liveportrait.errors import UserError
from liveportrait.folders import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

    from liveportrait.apps.live.gallery import Gallery
    from liveportrait.apps.live.outputs import Output

MAX_SIDE = 1024  # px of a live picture, unless --max-size allows more


@dataclass(frozen=True)
class LiveOptions(DriveOptions, SourceOptions):
    """How live portraits are opened and moved."""

    def __post_init__(self) -> None:
        """Raise `UserError` for transparency, which live pictures cannot have."""
        super().__post_init__()
        if self.alpha:
            raise UserError("live pictures have no transparency: leave out --alpha")


@dataclass(frozen=True)
class LivePortrait:
    """Drive PORTRAIT live with a camera: in the browser or, with --camera, in a window (see docs/guide/live.md)."""

    portraits: Annotated[Positional[tuple[Path, ...]], arg(metavar="PORTRAIT [PORTRAIT ...]")] = ()
    """photos or videos to switch between while it runs; the page also has samples and accepts photos"""
    port: int = 0
    """the page's port, open to this machine only; 0 picks a free one"""
    open: bool = True
    """open the page in the browser; --no-open only prints its address"""
    camera: str | None = None
    """number of a local camera such as 0, or its device file; shows a window instead of the page"""
    window: bool = True
    """with --camera: show the portrait in a window; keys: r restarts the motion from how you look now, 1 to 9
    choose a portrait, Escape quits"""
    mirror: bool = True
    """with --camera: mirror the picture"""
    virtual_camera: bool = False
    """offer the portrait to other programs as a camera; uses --camera 0 unless another is given"""
    record: Path | None = None
    """video file to record until Ctrl-C or the end; uses --camera 0 unless another is given (the page has its
    own recorder)"""
    overwrite: bool = False
    """replace the file of --record if it exists"""
    networks: OmitArgPrefixes[LoadOptions] = field(default_factory=LoadOptions)
    options: OmitArgPrefixes[LiveOptions] = field(default_factory=LiveOptions)

    def run(self) -> None:
        """Follow the camera until a signal or the window ends it."""
        from liveportrait.media import check_input

        for path in self.portraits:
            check_input(path)
        if self.camera is not None or self.virtual_camera or self.record:
            self._run_here(self.camera or "0")
        else:
            self._serve_page()

    @property
    def _options(self) -> LiveOptions:
        return self.options if self.options.max_size else replace(self.options, max_size=MAX_SIDE)

    def _serve_page(self) -> None:
        from liveportrait.apps.live.gallery import sample_portraits

        galleries: list[Gallery] = []

        def extend(application: FastAPI) -> None:
            galleries.append(gallery := application.state.gallery)
            gallery.set_portraits(
                portrait_names(self.portraits) or sample_portraits(), self._options, self._options
            )

        def show(address: str) -> None:
            for name in galleries[0].names:
                # Report a portrait without a face, or an unsuitable option, here rather than on the page.
                galleries[0].portrait(name).live(self._options).close()
            print(f"the live page is {address}/live", flush=True)
            if self.open and has_display():
                webbrowser.open(f"{address}/live")

        # The underlying service keeps its files while the page runs.
        with temporary_folder() as data:
            settings = ServerSettings(data=data, port=self.port, networks=self.networks, end_seconds=0)
            serve(settings, extend, show)

    def _run_here(self, camera_name: str) -> None:
        """Follow a local camera, without a browser."""
        from liveportrait.animation.compositor import watermark_for
        from liveportrait.apps.live.camera import Camera
        from liveportrait.apps.live.local import LocalLoop, stop_event
        from liveportrait.apps.live.outputs import Recording, VirtualCamera
        from liveportrait.apps.live.window import Window

        if not self.portraits:
            raise UserError("PORTRAIT is missing: name a photo or video for the camera to move")
        camera = Camera(camera_name, self.mirror)
        recording = Recording(self.record, self.overwrite) if self.record else None
        if not (self.window or self.virtual_camera or recording):
            raise UserError(
                "--no-window leaves nothing to show: give --virtual-camera or --record, or a window"
            )
        with ExitStack() as stack:
            stack.enter_context(camera)
            outputs: list[Output] = []
            if recording:
                outputs.append(stack.enter_context(recording))
            if self.virtual_camera:
                virtual = stack.enter_context(VirtualCamera())
                print(f"the portrait is camera {virtual.device}", flush=True)
                outputs.append(virtual)
            animator = self.networks.load()
            if recording and self.record:
                seal = animator.marker.seal(self.options.mark, "live", self.record)
            portraits = [animator.open(path, self._options) for path in self.portraits]
            if recording:
                source = portraits[0].source
                mark = watermark_for(source, animator.engine.variant, self._options, "live")
                recording.seal = seal.about(source.file, source.sha256, mark.payload if mark else None)
            loop = LocalLoop(portraits, self._options, camera)
            event = stack.enter_context(stop_event())  # until here, a signal ends the program at once
            window: Window | None = None
            if self.window:
                window = stack.enter_context(Window("liveportrait", {**loop.keys, "Escape": event.set}))
                outputs.append(window)
            report = stack.enter_context(status_line())
            lost: UserError | None = None
            try:
                stats = loop.run(
                    outputs, lambda: not event.is_set() and (window is None or window.is_open), report
                )
            except UserError as error:
                lost = error  # keep what was recorded so far
        if recording and recording.frames:
            print(f"wrote {self.record}; {seal.summary}")
        if lost:
            raise lost
        print(stats)


def portrait_names(portraits: tuple[Path, ...]) -> dict[str, Path]:
    """Names for files: their stems where these are unique, otherwise their paths."""
    stems = [path.stem for path in portraits]
    return {path.stem if stems.count(path.stem) == 1 else str(path): path for path in portraits}


def has_display() -> bool:
    """Whether a browser opened here would be visible: without a display, it might open in the terminal."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@contextmanager
def status_line() -> Iterator[Callable[[object], None]]:
    """A function that shows the state in one line of the terminal; does nothing if standard error is not one."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda stats: None
        return
    with console.status("waiting for the camera") as status:
        yield lambda stats: status.update(str(stats))
