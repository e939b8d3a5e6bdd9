"""The pipeline: a source and its drivers in, an animated portrait out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch

from liveportrait import weights
from liveportrait.animation.driver import Driver, is_template, open_driver
from liveportrait.animation.edit import edit_portrait
from liveportrait.animation.edit_options import EditOptions
from liveportrait.animation.options import AnimateOptions
from liveportrait.animation.production import Driving, produce
from liveportrait.animation.report import ANIMATE, Report, Stretches, held_note
from liveportrait.animation.run import Run
from liveportrait.animation.source import Image
from liveportrait.animation.streams import nothing
from liveportrait.choices import BackendName, PrecisionChoice
from liveportrait.engine import Engine, pick_device
from liveportrait.face import FaceAnalyzer, default_analyzer
from liveportrait.motion import Template, check_template_output, groups_for, read_template, write_template
from liveportrait.networks.interface import Motion
from liveportrait.types import Progress, no_progress

TRACKING_THREADS = (
    2  # while a face is followed, only the decoder runs beside it; more help a network so small little
)


class Animator:
    """Networks and face analysis, loaded once: animates any number of sources with any number of drivers.

    It keeps nothing of one animation for the next.

    >>> animator = Animator.load("compact")
    >>> animator.animate("portrait.jpg", "driving.mp4", "out.mp4", AnimateOptions(region="lips"))
    """

    def __init__(
        self, engine: Engine, analyzer: FaceAnalyzer | None = None, batch: int | None = None
    ) -> None:
        """`batch`: how many frames go through the networks together; None is what suits the engine."""
        self.engine = engine
        self.analyzer = analyzer or default_analyzer(min(TRACKING_THREADS, engine.threads))
        self.batch = batch or engine.batch

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = "compact",
        device: str = "auto",
        precision: PrecisionChoice = "auto",
        threads: int | None = None,
        batch: int | None = None,
        backend: BackendName = "auto",
    ) -> Animator:
        """An animator with the weights of that name or folder.

        `device`: "auto" (CUDA where there is one), "cpu", "cuda", ...; `threads`: PyTorch's CPU threads, for
        the whole process; `backend`: what runs the networks, "auto" is what suits the machine, and likewise
        `precision` (`engine.backend` tells which, and why). Raises `UserError` where weights, device or back end are
        missing.
        """
        networks = weights.load(name_or_path, pick_device(device))
        return cls(Engine(networks, precision, threads, backend), batch=batch)

    def animate(
        self,
        source: str | Path | Image,
        driving: Driving | Sequence[Driving],
        out: str | Path,
        options: AnimateOptions | None = None,
        progress: Progress = no_progress,
    ) -> Report:
        """Animate `source`, a photo, a video or an (H,W,3) uint8 RGB array, with a video, photo or motion template.

        Several of them in `driving` move a face each (`AnimateOptions.assign`). The result lasts as long as the
        shortest of them all, photos left aside; its rate is that of a source video, otherwise of the first moving
        driver. A result of one frame may also be a picture. `out` appears under its name only when it is complete.
        Raises `UserError`.
        """
        options = options or AnimateOptions()
        run = Run(self.engine, self.analyzer, self.batch, progress)
        drivers = [driving] if isinstance(driving, str | Path | Template) else list(driving)
        return produce(run, source, drivers, Path(out), options)

    def edit(
        self,
        source: str | Path | Image,
        out: str | Path,
        options: EditOptions | None = None,
        progress: Progress = no_progress,
    ) -> Report:
        """Edit the faces of `source`, a photo, a video or an (H,W,3) uint8 RGB array; write `out`, of the same kind.

        A video keeps its frames, rate and sound; frames without a face pass through as they are. `out` appears under
        its name only when it is complete. Raises `UserError`.
        """
        return edit_portrait(self, source, out, options, progress)

    def template(
        self,
        driving: str | Path,
        out: str | Path,
        crop_driving: bool = True,
        overwrite: bool = False,
        progress: Progress = no_progress,
    ) -> Report:
        """Write the motion of a video or photo as a motion template, or a template in the other file format.

        `out` ends in .safetensors, or in .pkl for the published weights' motions. Raises `UserError`.
        """
        run = Run(self.engine, self.analyzer, self.batch, progress)
        if is_template(path := Path(driving)):
            template = read_template(path)
            held: Stretches = ()
        else:
            out = check_template_output(out, groups_for(self.engine.variant).layout, overwrite)
            driver = open_driver(run, path, crop_driving)
            template, held = _record(run, driver), driver.held
        write_template(out, template, overwrite)
        return Report(
            out=Path(out),
            frames=len(template),
            fps=template.fps,
            profile=run.clock.profile(len(template)),
            held=held,
            notes=(held_note(held),) if held else (),
        )


def _record(run: Run, driver: Driver) -> Template:
    """The whole motion of a driver as a template."""
    motions: list[Motion] = []
    done = 0
    with closing(driver.play(nothing)) as play:
        for batch in play:
            motions.append(batch.motion)
            done += len(batch)
            run.progress(ANIMATE, done, driver.frames)
    motion = Motion(*(torch.cat(parts).cpu() for parts in zip(*motions, strict=True)))
    layout = groups_for(run.engine.variant).layout
    if driver.tracked is None:
        return Template(motion, driver.fps, layout)
    ratios = torch.from_numpy(driver.tracked.ratios)
    return Template(motion, driver.fps, layout, eye_ratios=ratios[:, :2], lip_ratios=ratios[:, 2:])
