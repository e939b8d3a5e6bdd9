"""`liveportrait animate`, `edit` and `template`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, Positional, arg

from liveportrait.animation.edit_options import EditOptions
from liveportrait.animation.options import AnimateOptions, DrivingOptions
from liveportrait.animation.published.options import PublishedOptions
from liveportrait.apps.progress import progress_bar
from liveportrait.choices import BackendName, PrecisionChoice
from liveportrait.errors import UserError
from liveportrait.limits import MediaLimits

if TYPE_CHECKING:
    from liveportrait.animation.animator import Animator
    from liveportrait.animation.report import Report


@dataclass(frozen=True)
class LoadOptions:
    """What runs, and on what."""

    weights: str = "compact"
    """name of the weights (see `liveportrait weights list`), or a folder"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps; auto is cuda where there is one"""
    precision: PrecisionChoice = "auto"
    """of convolutions: fp32, bf16, or on a GPU fp16; auto is the fastest that keeps the picture, and says why"""
    threads: int | None = None
    """CPU threads for the networks; the back end's own choice by default"""
    backend: BackendName = "auto"
    """what runs the networks; auto is what suits the machine, and says why (see docs/reference/backends.md)"""
    certificate: Path | None = None
    """a PEM file: whose name the content credentials of results bear; by default $LIVEPORTRAIT_CERTIFICATE, or a
    certificate made on first use (see docs/guide/marking.md)"""
    key: Path | None = None
    """a PEM file: the certificate's private key; by default $LIVEPORTRAIT_KEY"""

    def load(self) -> Animator:
        """The animator with these weights."""
        from liveportrait.animation.animator import Animator

        return Animator.load(
            self.weights,
            self.device,
            self.precision,
            self.threads,
            backend=self.backend,
            certificate=self.certificate,
            key=self.key,
        )


@dataclass(frozen=True)
class Animate:
    """Animate SOURCE, a photo or video, with DRIVING, a video, photo or motion template."""

    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    """the portrait: a photo or a video"""
    driving: Annotated[Positional[tuple[Path, ...]], arg(metavar="DRIVING [DRIVING ...]")]
    """what moves it: a video, a photo, or a motion template (.safetensors, .pkl); several move a face each"""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")]
    """the video to write (.mp4, .mov, .mkv, .webm, .gif), or a picture when DRIVING is a photo"""
    networks: OmitArgPrefixes[LoadOptions] = field(default_factory=LoadOptions)
    limits: OmitArgPrefixes[MediaLimits] = field(default_factory=MediaLimits)
    as_published: bool = False
    """do what the published program does, for those who bring its weights: other defaults (see --as-published --help),
    which options given beside it override, and its own ways (see docs/reference/published.md)"""
    animation: OmitArgPrefixes[AnimateOptions] = field(default_factory=AnimateOptions)
    verbose: bool = False
    """also print how much crops and keypoints tremble, before and after smoothing"""
    profile: bool = False
    """also print a table of where the time went: each stage, the queues between them, the networks' share"""

    def run(self) -> None:
        """Animate, and print what was done."""
        if not self.driving:
            raise UserError("DRIVING is missing: name a video, a photo or a motion template after SOURCE")
        self.limits.apply()
        animator = self.networks.load()
        with progress_bar() as progress:
            report = animator.animate(self.source, self.driving, self.out, self.animation, progress)
        show(report, animator)
        if self.profile:
            print(report.profile.table())
        if self.verbose:
            for name, before, after in report.jitter:
                print(f"jitter of {name}: {before:.2f} px, smoothed {after:.2f} px")


@dataclass(frozen=True)
class AnimateAsPublished(Animate):
    """Animate SOURCE, a photo or video, with DRIVING, a video, photo or motion template, as the published program."""

    animation: OmitArgPrefixes[PublishedOptions] = field(default_factory=PublishedOptions)


@dataclass(frozen=True)
class MakeTemplate:
    """Write the motion of DRIVING, a video, photo or other template, as a motion template."""

    driving: Annotated[Positional[Path], arg(metavar="DRIVING")]
    """a video, a photo, or a motion template to convert"""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")]
    """the template to write: .safetensors, or .pkl for the published weights' motions"""
    networks: OmitArgPrefixes[LoadOptions] = field(default_factory=LoadOptions)
    limits: OmitArgPrefixes[MediaLimits] = field(default_factory=MediaLimits)
    cropping: OmitArgPrefixes[DrivingOptions] = field(default_factory=DrivingOptions)
    as_published: bool = False
    """as the published program: what is not square is cropped, by one window, and the head goes where it goes there"""
    overwrite: bool = False
    """replace OUT if it exists"""

    def run(self) -> None:
        """Write the template, and print what was done."""
        self.limits.apply()
        animator = self.networks.load()
        with progress_bar() as progress:
            crops, crop, framing = (
                self.cropping.crop_driving,
                self.cropping.driving_crop,
                self.cropping.framing,
            )
            report = animator.template(
                self.driving, self.out, crops, self.overwrite, progress, crop, self.as_published, framing
            )
        show(report, animator)


def show(report: Report, animator: Animator) -> None:
    """Print what was written, where the time went and what ran; what deserves attention goes to standard error."""
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    for path in filter(None, (report.out, report.compare)):
        print(f"wrote {path}")
    print(report.summary())
    engine = animator.engine
    print(f"back end {engine.backend} in {engine.precision}: {engine.reason}")


@dataclass(frozen=True)
class Edit:
    """Edit the face in SOURCE, a photo or video: expression, gaze, head pose, openings of eyes and lips."""

    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    """the portrait: a photo or a video"""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")]
    """what to write: a picture (.png, .jpg), or a video (.mp4, .mov, .mkv, .webm, .gif) when SOURCE is one"""
    networks: OmitArgPrefixes[LoadOptions] = field(default_factory=LoadOptions)
    limits: OmitArgPrefixes[MediaLimits] = field(default_factory=MediaLimits)
    edit: OmitArgPrefixes[EditOptions] = field(default_factory=EditOptions)

    def run(self) -> None:
        """Edit, and print what was done."""

        self.limits.apply()
        animator = self.networks.load()
        with progress_bar() as progress:
            report = animator.edit(self.source, self.out, self.edit, progress)
        show(report, animator)
