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
    """Which weights run, and on what."""

    weights: str = "compact"
    """name of the weights (see `liveportrait weights list`), or a folder"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps; auto uses cuda if available"""
    precision: PrecisionChoice = "auto"
    """precision of convolutions: fp32, bf16, or fp16 on a GPU; auto picks the fastest that preserves the
    picture, and says why"""
    threads: int | None = None
    """CPU threads for the networks; chosen by the back end by default"""
    backend: BackendName = "auto"
    """the runtime for the networks; auto picks the one that suits the machine, and says why (see
    docs/reference/backends.md)"""
    certificate: Path | None = None
    """a PEM file: the certificate that signs the content credentials of results; by default
    $LIVEPORTRAIT_CERTIFICATE, or one made on first use (see docs/guide/marking.md)"""
    key: Path | None = None
    """a PEM file: the certificate's private key; by default $LIVEPORTRAIT_KEY"""

    def load(self) -> Animator:
        """Load the animator. Raises `UserError`."""
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
    """what drives it: a video, a photo, or a motion template (.safetensors, .pkl); several drive one face each"""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")]
    """the video to write (.mp4, .mov, .mkv, .webm, .gif), or a picture if DRIVING is a photo"""
    networks: OmitArgPrefixes[LoadOptions] = field(default_factory=LoadOptions)
    limits: OmitArgPrefixes[MediaLimits] = field(default_factory=MediaLimits)
    as_published: bool = False
    """reproduce the published program, for use with its weights: changes defaults (see --as-published --help),
    which explicit options override, and details of processing (see docs/reference/published.md)"""
    animation: OmitArgPrefixes[AnimateOptions] = field(default_factory=AnimateOptions)
    verbose: bool = False
    """also print the jitter of crops and keypoints, before and after smoothing"""
    profile: bool = False
    """also print how the time was spent: each stage, the queues between them, the networks' share"""

    def run(self) -> None:
        """Animate, and print a summary."""
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
    """Animate SOURCE, a photo or video, with DRIVING, a video, photo or motion template, as the published
    program does."""

    animation: OmitArgPrefixes[PublishedOptions] = field(default_factory=PublishedOptions)


@dataclass(frozen=True)
class MakeTemplate:
    """Save the motion of DRIVING, a video or photo, as a motion template, or convert a template."""

    driving: Annotated[Positional[Path], arg(metavar="DRIVING")]
    """a video, a photo, or a motion template to convert"""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")]
    """the template to write: .safetensors, or .pkl for motions of the published weights"""
    networks: OmitArgPrefixes[LoadOptions] = field(default_factory=LoadOptions)
    limits: OmitArgPrefixes[MediaLimits] = field(default_factory=MediaLimits)
    cropping: OmitArgPrefixes[DrivingOptions] = field(default_factory=DrivingOptions)
    as_published: bool = False
    """do as the published program does: crop a driver that is not square, with one window, and let the head
    follow the frame"""
    overwrite: bool = False
    """replace OUT if it exists"""

    def run(self) -> None:
        """Write the template, and print a summary."""
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
    """Print what was written, where the time went and what ran; notes go to standard error."""
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    for path in filter(None, (report.out, report.compare)):
        print(f"wrote {path}")
    print(report.summary())
    engine = animator.engine
    print(f"back end {engine.backend} in {engine.precision}: {engine.reason}")


@dataclass(frozen=True)
class Edit:
    """Edit the face in SOURCE, a photo or video: expression, gaze, head pose, and how far eyes and lips open."""

    source: Annotated[Positional[Path], arg(metavar="SOURCE")]
    """the portrait: a photo or a video"""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FILE")]
    """the file to write: a picture (.png, .jpg), or a video (.mp4, .mov, .mkv, .webm, .gif) if SOURCE is one"""
    networks: OmitArgPrefixes[LoadOptions] = field(default_factory=LoadOptions)
    limits: OmitArgPrefixes[MediaLimits] = field(default_factory=MediaLimits)
    edit: OmitArgPrefixes[EditOptions] = field(default_factory=EditOptions)

    def run(self) -> None:
        """Edit, and print a summary."""
        self.limits.apply()
        animator = self.networks.load()
        with progress_bar() as progress:
            report = animator.edit(self.source, self.out, self.edit, progress)
        show(report, animator)
