"""The watermark's robustness, visibility, cost, and rate of false positives.

    python benchmarks/watermark.py attacks PORTRAIT [PORTRAIT ...] --frames 12
    python benchmarks/watermark.py chance PICTURE [PICTURE ...]
    python benchmarks/watermark.py cost

PORTRAIT and PICTURE are picture files, or training shards, whose pictures are used. `attacks` drives every portrait
with a bundled template, marked and unmarked, at the picture's own size or enlarged, and reads the video and its first
frame after each attack. `cost` compares the CPU time of rendering a frame and of marking it, in one run.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from measuring import Figure, machine, table, write
from PIL import Image as Pillow
from skimage.data import astronaut

from liveportrait import Animator, DriveOptions
from liveportrait.data.shards import read_entries
from liveportrait.errors import UserError
from liveportrait.marking.payload import Payload
from liveportrait.marking.reading import read_picture, read_pictures
from liveportrait.marking.watermark import Watermark
from liveportrait.media import load_image
from liveportrait.motion import bundled_templates
from liveportrait.types import Image

Film = list[Image]
TEMPLATES = bundled_templates()
ENLARGEMENTS = (1, 2, 3)  # in turn, so that regions range from a crop's size to a large photo's


def h264(frames: Film, crf: int) -> Film:
    """Frames encoded as H.264 and decoded again."""
    held = io.BytesIO()
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    with av.open(held, "w", format="mp4") as out:
        stream = out.add_stream("libx264", 25, options={"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            cut = np.ascontiguousarray(frame[:height, :width])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(cut, "rgb24")))
        out.mux(stream.encode())
    held.seek(0)
    with av.open(held) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


def jpeg(frames: Film, quality: int) -> Film:
    """Each frame as a JPEG of that quality."""
    result = []
    for frame in frames:
        held = io.BytesIO()
        Pillow.fromarray(frame).save(held, "JPEG", quality=quality)
        result.append(np.asarray(Pillow.open(held).convert("RGB")))
    return result


def resized(frames: Film, by: float) -> Film:
    """Each frame enlarged by a factor."""
    kind = cv2.INTER_AREA if by < 1 else cv2.INTER_LINEAR
    return [
        np.asarray(cv2.resize(frame, None, fx=by, fy=by, interpolation=kind), np.uint8) for frame in frames
    ]


def cropped(frames: Film, share: float) -> Film:
    """Frames with a share of their width and height cut off, unevenly on the two sides."""
    height, width = frames[0].shape[:2]
    top, left = round(0.37 * share * height), round(0.61 * share * width)
    rows, columns = (
        slice(top, top + round((1 - share) * height)),
        slice(left, left + round((1 - share) * width)),
    )
    return [np.ascontiguousarray(frame[rows, columns]) for frame in frames]


ATTACKS: dict[str, Callable[[Film], Film]] = {
    "none": lambda frames: frames,
    "H.264 crf 23": lambda frames: h264(frames, 23),
    "H.264 crf 28": lambda frames: h264(frames, 28),
    "0.75 x, crf 23": lambda frames: h264(resized(frames, 0.75), 23),
    "crop 10 %, crf 23": lambda frames: h264(cropped(frames, 0.1), 23),
    "JPEG 80": lambda frames: jpeg(frames, 80),
    "1.1 x (screen), crf 23": lambda frames: h264(resized(frames, 1.1), 23),
    "0.75 x, crop 10 %, crf 28": lambda frames: h264(cropped(resized(frames, 0.75), 0.1), 28),
}


# Recognised, and with readable payload
COLUMNS = ("films", "pictures", "films, payload", "pictures, payload")


def pictures(paths: list[Path]) -> Iterator[Image]:
    """The pictures of files and shards, in order."""
    for path in paths:
        if path.suffix == ".tar":
            for entry in read_entries(path, lambda _: None):
                if not entry.is_video:
                    yield entry.frames()[0]
        else:
            yield load_image(path)


def attacks(options: argparse.Namespace) -> list[Figure]:
    """How often videos, and their first frames alone, are read after each attack."""
    animator = Animator.load("compact", threads=options.threads)
    read = {name: [0] * len(COLUMNS) for name in ATTACKS}
    count, worst = 0, np.inf
    for picture, motion, times in zip(
        pictures(options.files), cycle(TEMPLATES.values()), cycle(ENLARGEMENTS), strict=False
    ):
        if count == options.most:
            break
        large = cv2.resize(picture, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
        try:
            portrait = animator.open(np.asarray(large, np.uint8))
        except UserError:
            continue
        marked, plain = (
            list(islice(portrait.drive(motion, DriveOptions(mark=mark)), options.frames))
            for mark in (True, False)
        )
        count += 1
        for one, other in zip(marked, plain, strict=True):
            change = np.square(one.astype(np.float32) - other).mean(axis=2)
            region = change > 0
            # Closed, because rounding leaves some pixels unchanged in between.
            within = cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)) > 0
            worst = min(worst, 10 * np.log10(255**2 / max(change[within].mean(), 1e-9)))
        for attack, harm in ATTACKS.items():
            harmed = harm(marked)
            found = read_pictures(harmed), read_picture(harmed[0])
            for row, reading in enumerate(found):
                read[attack][row] += reading is not None
                read[attack][row + 2] += reading is not None and reading.payload is not None
        print(count, {name: tuple(row) for name, row in read.items()}, f"{worst:.2f} dB", flush=True)
    return [
        {
            "attack": name,
            "outputs": count,
            **{column: f"{found / count:.1%}" for column, found in zip(COLUMNS, numbers, strict=True)},
        }
        for name, numbers in read.items()
    ] + [{"attack": f"least PSNR on the region of {count}, dB", "films": f"{worst:.2f}"}]


def chance(options: argparse.Namespace) -> list[Figure]:
    """How many unmarked pictures are mistaken for marked ones."""
    seen = found = 0
    for picture in islice(pictures(options.files), options.most):
        seen += 1
        found += read_picture(picture) is not None
    return [{"pictures": seen, "read by mistake": found}]


def cost(options: argparse.Namespace) -> list[Figure]:
    """CPU time of rendering a frame, and of marking it."""
    animator = Animator.load("compact", threads=options.threads)
    portrait = animator.open(astronaut())
    frames = portrait.drive(TEMPLATES["talk"], DriveOptions(mark=False))
    mark, made = Watermark(Payload("animated")), [0.0, 0.0]
    for frame in islice(frames, 4, options.most):
        begun = time.process_time()
        mark.embed(frame)
        made[1] += time.process_time() - begun
    frames = portrait.drive(TEMPLATES["talk"], DriveOptions(mark=False))
    begun = time.process_time()
    count = len(list(islice(frames, options.most)))
    made[0] = time.process_time() - begun
    per_frame = made[0] / count, made[1] / max(count - 4, 1)
    return [
        {
            "frame_ms": 1000 * per_frame[0],
            "mark_ms": 1000 * per_frame[1],
            "share": per_frame[1] / per_frame[0],
        }
    ]


def main() -> None:
    """Measure, print, and write the figures with `--write`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("attacks", "chance", "cost"))
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--frames", type=int, default=12, help="frames of each video")
    parser.add_argument(
        "--most", type=int, default=100, help="maximum number of portraits, pictures or frames"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", type=Path, metavar="FILE", help="keep the figures as JSON lines")
    options = parser.parse_args()
    figures = {"attacks": attacks, "chance": chance, "cost": cost}[options.what](options)
    print(table(figures, tuple(figures[0])))
    if options.write:
        write([figure | machine(torch.device("cpu")) for figure in figures], options.write)


if __name__ == "__main__":
    main()
