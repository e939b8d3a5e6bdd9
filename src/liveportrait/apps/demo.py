"""`liveportrait demo`: the astronaut from scikit-image with the bundled motions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, arg

from liveportrait.animation.options import AnimateOptions
from liveportrait.apps.animate import LoadOptions, show
from liveportrait.apps.progress import progress_bar
from liveportrait.errors import UserError
from liveportrait.marking.options import MarkOptions

if TYPE_CHECKING:
    import numpy as np

COLUMNS = 8  # frames of each motion on the contact sheet


@dataclass(frozen=True)
class Demo:
    """Animate a sample portrait with the bundled motions: a video and a contact sheet."""

    out: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")] = Path("out")
    """the folder to write demo.mp4 and contact-sheet.png to; created if it does not exist"""
    networks: OmitArgPrefixes[LoadOptions] = field(default_factory=LoadOptions)
    marking: OmitArgPrefixes[MarkOptions] = field(default_factory=MarkOptions)
    overwrite: bool = False
    """replace the files if they exist"""

    def run(self) -> None:
        """Write both files, and print a summary."""
        from liveportrait.media import IMAGE_OUTPUTS, OutputGroup, check_output, save_image
        from liveportrait.motion import bundled_templates, concatenate

        portrait = sample_portrait()
        templates = bundled_templates()
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {self.out}: {error.strerror}") from error
        video, sheet = self.out / "demo.mp4", self.out / "contact-sheet.png"
        check_output(sheet, IMAGE_OUTPUTS, self.overwrite)
        animator = self.networks.load()
        with progress_bar() as progress:
            report = animator.animate(
                portrait,
                concatenate(list(templates.values())),
                video,
                AnimateOptions(overwrite=self.overwrite, mark=self.marking.mark),
                progress,
            )
        lengths = {name: len(template) for name, template in templates.items()}
        face = animator.analyzer.detect(portrait)[0]
        pictures = motion_sheet(portrait, video, lengths, around(face.box, portrait))
        with OutputGroup(animator.marker.seal(self.marking.mark, "animate", sheet)) as group:
            save_image(sheet, pictures, self.overwrite, group)
        show(report, animator)
        print(f"wrote {sheet}")


def sample_portrait() -> np.ndarray:
    """The astronaut from scikit-image, (512,512,3) uint8 RGB. Raises `UserError` if scikit-image is missing."""
    try:
        from skimage.data import astronaut
    except ImportError as error:
        raise UserError("the demo takes its portrait from scikit-image: pip install scikit-image") from error
    return astronaut()


def around(box: tuple[float, float, float, float], picture: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a square twice the size of a face's box, clipped to the picture."""
    x0, y0, x1, y1 = box
    reach = max(x1 - x0, y1 - y0)
    column, row = (x0 + x1) / 2, (y0 + y1) / 2
    height, width = picture.shape[:2]
    return (
        slice(max(int(row - reach), 0), min(int(row + reach), height)),
        slice(max(int(column - reach), 0), min(int(column + reach), width)),
    )


def motion_sheet(
    portrait: np.ndarray, video: Path, lengths: dict[str, int], part: tuple[slice, slice]
) -> np.ndarray:
    """A contact sheet of a video of several consecutive motions: a row for each, with the portrait and some frames.

    `lengths` gives the motions' names and numbers of frames in order, `part` the rows and columns to show.
    """
    from liveportrait.media import VideoReader, contact_sheet

    wanted: dict[int, str] = {}
    start = 0
    for name, length in lengths.items():
        shown = min(COLUMNS, length)
        wanted |= {start + (2 * i + 1) * length // (2 * shown): name for i in range(shown)}
        start += length
    rows = {name: [portrait[part]] for name in lengths}
    with VideoReader(video) as reader:
        for index, frame in enumerate(reader):
            if index in wanted:
                rows[wanted[index]].append(frame[part])
    return contact_sheet(list(rows.values()), list(rows))
