"""Make the animated picture in the README: scikit-image's astronaut, photo and result side by side.

    python scripts/make_readme_picture.py docs/images/astronaut.webp

The motion combines two bundled templates: the head turns of `look-around`, and the expressions of both.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.data import astronaut

from liveportrait import Animator
from liveportrait.motion import Template, bundled_templates

FACE = slice(0, 264), slice(92, 356)  # rows and columns of the photo
SIDE = 320  # px of either half
GAP = 8  # white px between them
QUALITY = 85  # of WebP, 1 to 100


def template() -> Template:
    """The motion of the picture."""
    bundled = bundled_templates()
    talk, look = bundled["talk"].motion, bundled["look-around"].motion
    motion = look._replace(expression=look.expression + talk.expression - talk.expression[:1])
    return Template(motion, bundled["look-around"].fps, bundled["look-around"].layout)


def half(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The visible part of a frame (512,512,3), as BGR."""
    return cv2.cvtColor(
        cv2.resize(picture[FACE], (SIDE, SIDE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR
    )


def main() -> None:
    """Animate, and write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="an animated .webp or .gif")
    out = parser.parse_args().out

    photo, motion = astronaut(), template()
    results = Animator.load("compact").open(photo).drive(motion)
    gap = np.full((SIDE, GAP, 3), 255, np.uint8)
    animation = cv2.Animation()
    animation.frames = [np.hstack([half(photo), gap, half(result)]) for result in results]
    animation.durations = np.full(len(motion), round(1000 / motion.fps), np.int32)
    if not cv2.imwriteanimation(str(out), animation, [cv2.IMWRITE_WEBP_QUALITY, QUALITY]):
        raise SystemExit(f"cannot write {out}")
    print(f"wrote {out}: {len(motion)} frames, {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
