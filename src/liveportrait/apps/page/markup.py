"""The HTML that the page shows: pictures, crops, progress, results and messages."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from liveportrait.face.crop import CropWindow
from liveportrait.types import Image

QUALITY = 88  # of JPEG
MAX_SIDE = 1024  # px, of a picture on the page
CLOSE_UP_SIDE = 640  # px, of a picture that changes often
FRAME_COLOUR = (255, 255, 255)


def picture_url(image: Image, side: int = MAX_SIDE, quality: int = QUALITY) -> str:
    """A picture (H,W,3) as the data URL of a JPEG of at most `side` px."""
    shrunk = min(1.0, side / max(image.shape[:2]))
    if shrunk < 1:
        image = np.asarray(cv2.resize(image, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA))
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, quality)
    )
    assert done
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def picture(image: Image, text: str, caption: str = "", side: int = MAX_SIDE) -> str:
    """A picture with its alternative text and a caption."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure class="lp-picture"><img src="{picture_url(image, side)}" alt="{escape(text, True)}">'
        f"{below}</figure>"
    )


def framed(image: Image, windows: Sequence[CropWindow], side: int = 640) -> Image:
    """The picture, reduced to `side` px, with outlined crops and everything outside them darkened."""
    shrunk = min(1.0, side / max(image.shape[:2]))
    image = np.asarray(cv2.resize(image, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA), np.uint8)
    inside = np.zeros(image.shape[:2], np.uint8)
    outlines = [(corners(window) * shrunk).astype(np.int32) for window in windows]
    for outline in outlines:
        cv2.fillConvexPoly(inside, outline, 255, cv2.LINE_AA)
    lit = np.where(inside[..., None] > 0, image, image * 0.45).astype(np.uint8)
    for outline in outlines:
        cv2.polylines(lit, [outline], True, FRAME_COLOUR, 2, cv2.LINE_AA)
    return lit


def corners(window: CropWindow) -> NDArray[np.float32]:
    """The corners (4,2) of a crop, in px of the picture."""
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) * (window.size - 1)
    back = window.inverse()
    return np.asarray(square @ back[:, :2].T + back[:, 2], np.float32)


def crop_card(image: Image, windows: Sequence[CropWindow], crop: Image, name: str, note: str) -> str:
    """A chosen portrait: the picture with its crop marked, and the crop as the networks see it."""
    overview = picture_url(framed(image, windows))
    face = picture_url(crop, 256)
    return (
        '<div class="lp-source">'
        f'<img class="lp-whole" src="{overview}" alt="the portrait, with its crop marked">'
        f'<div class="lp-crop"><img src="{face}" alt="the crop that will move"><p>{escape(name)}</p>'
        f'<p class="lp-faded">{escape(note)}</p></div></div>'
    )


def faces_card(image: Image, windows: Sequence[CropWindow], drivers: Mapping[int, str], chosen: int) -> str:
    """A picture with a button on each face, numbered from the left, that names its driver."""
    height, width = image.shape[:2]
    buttons = []
    for number, window in enumerate(windows, start=1):
        (left, top), (right, bottom) = (edge(corners(window), axis=0) for edge in (np.min, np.max))
        left, right = np.clip([left, right], 0, width) * 100 / width
        top, bottom = np.clip([top, bottom], 0, height) * 100 / height
        place = f"left:{left:.1f}%;top:{top:.1f}%;width:{right - left:.1f}%;height:{bottom - top:.1f}%"
        words = drivers.get(number, "does not move")
        buttons.append(
            f'<button type="button" data-face="{number}" aria-pressed="{str(number == chosen).lower()}" '
            f'style="{place}" aria-label="face {number}: {escape(words, True)}">'
            f"<span>{number}{f' · {escape(words)}' if number in drivers else ''}</span></button>"
        )
    return (
        f'<div class="lp-faces"><img src="{picture_url(image)}" alt="a picture of {len(windows)} faces">'
        f"{''.join(buttons)}</div>"
    )


def driver_card(image: Image | None, name: str, note: str) -> str:
    """A chosen driver."""
    thumbnail = (
        f'<img src="{picture_url(image, 256)}" alt="first frame of the driver">' if image is not None else ""
    )
    return (
        f'<div class="lp-driver">{thumbnail}<div><p>{escape(name)}</p>'
        f'<p class="lp-faded">{escape(note)}</p></div></div>'
    )


def progress(words: str, share: float | None, details: str = "") -> str:
    """A progress bar; indeterminate if the share done is None."""
    value = "" if share is None else f' value="{share:.3f}"'
    return (
        f'<div class="lp-progress" role="status"><p><strong>{escape(words)}</strong>'
        f'<span class="lp-faded">{escape(details)}</span></p>'
        f'<progress max="1"{value} aria-label="{escape(words, True)}"></progress></div>'
    )


def result(
    url: str, name: str, details: str, notes: Sequence[str], compares: bool = False, speaks: bool = False
) -> str:
    """A playable result, with notes and download links for it and its comparison.

    `speaks`: it plays once and with sound, instead of muted in a loop.
    """
    is_picture = name.endswith((".png", ".jpg", ".webp", ".gif"))
    tag = (
        f'<img src="{url}" alt="the result">'
        if is_picture
        else f'<video src="{url}" controls autoplay {"" if speaks else "loop muted "}playsinline></video>'
    )
    said = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        f'<figure class="lp-picture lp-result">{tag}<figcaption><span>{escape(details)}</span>'
        f"{_link(f'{url}?compare=1', f'compare-{name}', 'Side by side') if compares else ''}"
        f"{_link(url, name, 'Download')}</figcaption>"
        f"{f'<ul>{said}</ul>' if said else ''}</figure>"
    )


def _link(url: str, name: str, words: str) -> str:
    return f'<a class="lp-download" href="{url}" download="{escape(name, True)}">{words}</a>'


def message(sentence: str, kind: str = "problem") -> str:
    """A sentence for the visitor: a `problem`, or only a `hint`."""
    role = "alert" if kind == "problem" else "status"
    return f'<p class="lp-message lp-{kind}" role="{role}">{escape(capital(sentence))}</p>'


def empty(sentence: str) -> str:
    """The placeholder of a result."""
    return f'<div class="lp-empty"><p>{escape(sentence)}</p></div>'


def capital(sentence: str) -> str:
    """Capitalise a sentence, unless it starts with a file name."""
    return sentence if "." in sentence.split(" ", 1)[0] else sentence[:1].upper() + sentence[1:]
