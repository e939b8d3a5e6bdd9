"""`liveportrait speak`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from liveportrait.animation.speaking.options import SpeakOptions
from liveportrait.apps.animate import LoadOptions, show
from liveportrait.apps.progress import progress_bar
from liveportrait.errors import UserError


@dataclass(frozen=True)
class Speak:
    """Let SOURCE, a photo or video, say what is heard in SPEECH, or a text."""

    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    """the portrait: a photo, or a video whose mouth then says something else"""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")]
    """the video to write (.mp4, .mov, .mkv, .webm, .gif), or a folder of PNG (no suffix)"""
    speech: Annotated[Positional[Path | None], arg(metavar="SPEECH")] = None
    """a sound (.wav, .mp3, .ogg, .m4a, .flac), or a video for its sound"""
    text: str = ""
    """what to say, in place of SPEECH: read by espeak-ng, or with --voice by piper"""
    voice: str = ""
    """with --text: a voice of espeak-ng such as de or en-gb, or the .onnx file of a voice of piper-tts"""
    networks: OmitArgPrefixes[LoadOptions] = field(default_factory=LoadOptions)
    speaking: OmitArgPrefixes[SpeakOptions] = field(default_factory=SpeakOptions)
    profile: bool = False
    """also print a table of where the time went"""

    def run(self) -> None:
        """Speak, and print what was done."""
        from liveportrait.media.sound.text import spoken  # slow to import

        if (self.speech is None) == (not self.text):
            raise UserError("give one of SPEECH, a sound file, and --text, what to say")
        if self.voice and not self.text:
            raise UserError("--voice reads --text, and there is none: leave it out")
        with ExitStack() as stack:
            speech = self.speech or stack.enter_context(spoken(self.text, self.voice))
            animator = self.networks.load()
            with progress_bar() as progress:
                report = animator.speak(self.source, speech, self.out, self.speaking, progress)
            show(report, animator)
            if self.profile:
                print(report.profile.table())
