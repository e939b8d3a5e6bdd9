"""The pipeline: a source and a driver in, an animated portrait out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from liveportrait import weights
from liveportrait.animation.driver import Driver, is_template, open_driver, template_driver
from liveportrait.animation.options import AnimateOptions
from liveportrait.animation.output import Write, output_paths, picture_writer, side_by_side
from liveportrait.animation.report import ANIMATE, Progress, Report, held_note, no_progress
from liveportrait.animation.run import Run
from liveportrait.animation.source import Source, prepare_source
from liveportrait.animation.steering import Steering
from liveportrait.animation.streams import finish_behind
from liveportrait.choices import Precision
from liveportrait.engine import Engine, pick_device
from liveportrait.errors import UserError
from liveportrait.face import FaceAnalyzer
from liveportrait.face.paste import Paster
from liveportrait.media import IMAGE_OUTPUTS
from liveportrait.motion import Template, check_template_output, groups_for, read_template, write_template
from liveportrait.networks.interface import Motion

Image = NDArray[np.uint8]
BATCH = 4


class Animator:
    """Networks and face analysis, loaded once: animates any number of sources with any number of drivers.

    It keeps nothing of one animation for the next.

    >>> animator = Animator.load("compact")
    >>> animator.animate("portrait.jpg", "driving.mp4", "out.mp4", AnimateOptions(region="lips"))
    """

    def __init__(self, engine: Engine, analyzer: FaceAnalyzer | None = None, batch: int = BATCH) -> None:
        """`batch`: how many frames go through the networks together."""
        self.engine = engine
        self.analyzer = analyzer or FaceAnalyzer()
        self._batch = batch

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = "compact",
        device: str = "auto",
        precision: Precision = "fp32",
        threads: int | None = None,
        batch: int = BATCH,
    ) -> Animator:
        """An animator with the weights of that name or folder.

        `device`: "auto" (CUDA where there is one), "cpu", "cuda", ...; `threads`: PyTorch's CPU threads, for
        the whole process. Raises `UserError` where weights or device are missing.
        """
        networks = weights.load(name_or_path, pick_device(device))
        return cls(Engine(networks, precision, threads), batch=batch)

    def animate(
        self,
        source: str | Path | Image,
        driving: str | Path | Template,
        out: str | Path,
        options: AnimateOptions | None = None,
        progress: Progress = no_progress,
    ) -> Report:
        """Animate `source`, a photo or (H,W,3) uint8 RGB array, with a video, photo or motion template.

        `out` gets as many frames as the driver has, at its rate and with its sound; a driver of one frame may
        also give a picture. It appears under its name only when it is complete. Raises `UserError`.
        """
        options = options or AnimateOptions()
        targets = output_paths(Path(out), options)
        run = Run(self.engine, self.analyzer, self._batch, progress)
        prepared = prepare_source(run, source, options)
        driver = self._open(run, driving, options.crop_driving)
        still = targets[0].suffix.lower() in IMAGE_OUTPUTS
        if still and driver.frames != 1:
            raise UserError(
                f"{targets[0]} is a picture, and DRIVING has many frames: name a video such as .mp4"
            )
        steering = Steering(self.engine, prepared.motion, driver.first, driver.is_photo, options)
        frames = _render(run, prepared, driver, steering, targets, options)
        return Report(
            out=targets[0],
            frames=frames,
            fps=driver.fps,
            elapsed=run.clock.elapsed(),
            seconds=dict(run.clock.seconds),
            compare=targets[1] if options.compare else None,
            held=driver.held,
            stitched=steering.stitches,
            notes=tuple(_notes(prepared, driver, options, self.engine)),
        )

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
        run = Run(self.engine, self.analyzer, self._batch, progress)
        if is_template(path := Path(driving)):
            template = read_template(path)
            held: tuple[tuple[int, int], ...] = ()
        else:
            out = check_template_output(out, groups_for(self.engine.variant).layout, overwrite)
            driver = open_driver(run, path, crop_driving)
            template, held = _record(run, driver), driver.held
        write_template(out, template, overwrite)
        return Report(
            out=Path(out),
            frames=len(template),
            fps=template.fps,
            elapsed=run.clock.elapsed(),
            seconds=dict(run.clock.seconds),
            held=held,
            notes=(held_note(held),) if held else (),
        )

    def _open(self, run: Run, driving: str | Path | Template, crops: bool) -> Driver:
        if isinstance(driving, Template):
            return template_driver(run, driving)
        return open_driver(run, Path(driving), crops)


def _render(
    run: Run,
    source: Source,
    driver: Driver,
    steering: Steering,
    targets: list[Path],
    options: AnimateOptions,
) -> int:
    """Play the driver, render and write every frame; the number of frames."""
    clock, size = run.clock, run.engine.variant.output_size
    paster = Paster(source.window, source.image.shape) if source.window and options.paste_back else None
    height, width = source.image.shape[:2] if paster else (size, size)
    tiles = 3 if driver.has_pictures else 2
    audio = driver.audio if options.audio == "driving" else None
    done = 0
    with ExitStack() as stack:
        write = stack.enter_context(picture_writer(targets[0], driver, width, height, audio, options))
        write_compare: Write | None = None
        if options.compare:
            write_compare = stack.enter_context(
                picture_writer(targets[1], driver, size * tiles, size, audio, options)
            )

        def finish(face: Image, tile: Image | None) -> None:
            with clock.step("paste"):
                frame = paster.paste(face, source.image) if paster else face
            with clock.step("encode"):
                write(frame)
                if write_compare:
                    write_compare(side_by_side([source.face, tile, face], size))

        submit = stack.enter_context(finish_behind(finish))
        for batch in stack.enter_context(closing(driver.play())):
            with clock.step("render"):
                faces = run.engine.render(source.features, source.pose, steering.poses(batch.motion))
            for face, tile in zip(faces, batch.tiles, strict=True):
                submit(face, tile)
            done += len(faces)
            run.progress(ANIMATE, done, driver.frames)
    return done


def _record(run: Run, driver: Driver) -> Template:
    """The whole motion of a driver as a template."""
    motions: list[Motion] = []
    done = 0
    with closing(driver.play()) as play:
        for batch in play:
            motions.append(batch.motion)
            done += batch.motion.scale.shape[0]
            run.progress(ANIMATE, done, driver.frames)
    motion = Motion(*(torch.cat(parts).cpu() for parts in zip(*motions, strict=True)))
    layout = groups_for(run.engine.variant).layout
    if driver.tracked is None:
        return Template(motion, driver.fps, layout)
    ratios = torch.from_numpy(driver.tracked.ratios)
    return Template(motion, driver.fps, layout, eye_ratios=ratios[:, :2], lip_ratios=ratios[:, 2:])


def _notes(source: Source, driver: Driver, options: AnimateOptions, engine: Engine) -> Iterator[str]:
    if source.faces > 1:
        yield f"{source.faces} faces found in {source.name}: the largest was animated"
    if driver.held:
        yield held_note(driver.held)
    if options.stitching and not engine.can_stitch:
        yield "these weights bring no stitching module: animated without stitching"
    if driver.is_photo and options.motion == "relative" and options.region in ("all", "pose"):
        yield "a driving photo gives its expression only: use --motion absolute to take its head pose too"
