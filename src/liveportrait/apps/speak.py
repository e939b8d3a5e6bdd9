"""`liveportrait speak`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from liveportrait.apps.animate import LoadOptions, show
from liveportrait.apps.jobs import Job, SpeakJobOptions, run_job
from liveportrait.apps.progress import progress_bar
from liveportrait.limits import MediaLimits


@dataclass(frozen=True)
class Speak:
    """Make SOURCE, a photo or video, speak: the words of SPEECH, a sound, or a text."""

    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    """the portrait: a photo, or a video to dub"""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")]
    """the video to write (.mp4, .mov, .mkv, .webm, .gif), or a folder of PNG (no suffix)"""
    speech: Annotated[Positional[Path | None], arg(metavar="SPEECH")] = None
    """a sound file (.wav, .mp3, .ogg, .m4a, .flac), or a video whose sound is used"""
    networks: OmitArgPrefixes[LoadOptions] = field(default_factory=LoadOptions)
    limits: OmitArgPrefixes[MediaLimits] = field(default_factory=MediaLimits)
    speaking: OmitArgPrefixes[SpeakJobOptions] = field(default_factory=SpeakJobOptions)
    profile: bool = False
    """also print how the time was spent"""

    def run(self) -> None:
        """Make the portrait speak, and print a summary."""
        self.limits.apply()
        driving = (self.speech,) if self.speech else ()
        job = Job("speak", self.source, driving, self.out, self.speaking)
        animator = self.networks.load()
        with progress_bar() as progress:
            report = run_job(animator, job, progress)
        show(report, animator)
        if self.profile:
            print(report.profile.table())
