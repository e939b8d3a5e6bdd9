"""`liveportrait edit`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from liveportrait.animation.edit_options import EditOptions
from liveportrait.apps.animate import LoadOptions, show
from liveportrait.apps.progress import progress_bar


@dataclass(frozen=True)
class Edit:
    """Edit the face in SOURCE, a photo or video: expression, gaze, head pose, openings of eyes and lips."""

    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    """the portrait: a photo or a video"""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")]
    """what to write: a picture (.png, .jpg), or a video (.mp4, .mov, .mkv, .webm) when SOURCE is one"""
    networks: OmitArgPrefixes[LoadOptions] = field(default_factory=LoadOptions)
    edit: OmitArgPrefixes[EditOptions] = field(default_factory=EditOptions)

    def run(self) -> None:
        """Edit, and print what was done."""

        animator = self.networks.load()
        with progress_bar() as progress:
            report = animator.edit(self.source, self.out, self.edit, progress)
        show(report, animator)
