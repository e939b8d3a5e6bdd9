"""Renders the pictures of one visitor's live stream. Everything here runs in the visitor's thread.

Several pictures are rendered in parallel; a second thread waits for each in turn, encodes it and sends it.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from liveportrait.apps.live.follower import Follower
from liveportrait.apps.live.frames import (
    INTERNAL_ERROR,
    Refusal,
    decode_frame,
    encode_frame,
    pack,
    picture_size,
)
from liveportrait.apps.live.gallery import Gallery
from liveportrait.apps.live.options import live_options
from liveportrait.apps.live.speaker import Speaker
from liveportrait.apps.server.settings import ALWAYS_MARKED, LiveLimits
from liveportrait.errors import UserError
from liveportrait.types import Image

if TYPE_CHECKING:
    from liveportrait.animation.portrait import Portrait

_log = logging.getLogger("liveportrait.server")


@dataclass(frozen=True)
class Arrival:
    """A camera's frame as received."""

    number: object  # the client's, returned with the picture
    data: bytes
    time: float  # ms


class Tick:
    """The next frame of a speaking portrait is due."""


class Studio:
    """One portrait that follows a camera or speaks, and can be switched for another."""

    def __init__(
        self,
        gallery: Gallery,
        limits: LiveLimits,
        post: Callable[[bytes | str | Refusal], None],
        give_credit: Callable[[], None],
    ) -> None:
        """`post` sends a message; `give_credit` is called when a request needs no picture."""
        self._gallery, self._limits, self._post, self._give_credit = gallery, limits, post, give_credit
        self._follower: Follower | None = None
        self._speaker: Speaker | None = None
        self._options = gallery.drive
        self._photos: dict[str, Portrait] = {}  # the visitor's own photos
        self._replies = 0  # pictures sent
        self._sender = ThreadPoolExecutor(1, "live-sender")
        self._pending: deque[Future[None]] = deque()  # pictures being rendered
        self.format = "jpeg"
        """picture format: jpeg or webp"""

    def work(self, asked: Arrival | Tick, skipped: int) -> None:
        """Handle a camera's frame or, while the portrait speaks, a tick."""
        if isinstance(asked, Arrival):
            self._follow(asked, skipped)
        elif self._speaker:
            self._speak(self._speaker, skipped)
        else:  # a tick before the voice has started needs no picture
            self._give_credit()

    def _speak(self, speaker: Speaker, skipped: int) -> None:
        began = now()
        skipped = speaker.ask(skipped)
        self._enqueue_reply(partial(self._send_utterance, speaker, skipped, began), speaker.at_once)

    def _send_utterance(self, speaker: Speaker, skipped: int, began: float) -> None:
        picture, sound = speaker.take()
        rendered = now()
        body = encode_frame(picture, self.format)
        sent = now()
        self._replies += 1
        header = {
            "reply": self._replies,
            "picture": len(body),
            "samples": len(sound) // 2,
            "waiting": round(speaker.waiting, 3),
            "said": speaker.said,
            "skipped": skipped,
            "sent": round(sent, 2),
            "stages": {name: round(1000 * spent, 2) for name, spent in speaker.stages.items() if spent}
            | {"whole": round(rendered - began, 2), "encode": round(sent - rendered, 2)},
        }
        self._post(pack(header, body + sound))

    def _enqueue_reply(self, job: Callable[[], None], at_once: int) -> None:
        """Pass a job to the second thread, and wait until there is room for another picture."""

        def done() -> None:
            try:
                job()
            except Exception as error:  # reported like those of the first thread
                self.fail(error)

        self._pending.append(self._sender.submit(done))
        while len(self._pending) >= max(at_once, 1):
            self._pending.popleft().result()

    def _drain(self) -> None:
        """Wait until no picture is being rendered."""
        while self._pending:
            self._pending.popleft().result()

    def begin(self, speaker: Speaker | None, values: object) -> None:
        """Make the portrait speak, or follow the camera again."""
        self._drain()
        if self._speaker:
            self._speaker.close()
        self._speaker = None
        if speaker:
            follower = self._follower = self._follower or self._default_follower()
            speaker.begin(follower.portrait, self._options)
            self._speaker = speaker
        self._send_json({"voice": values})

    def _follow(self, arrival: Arrival, skipped: int) -> None:
        follower = self._follower = self._follower or self._default_follower()
        began = now()
        frame = decode_frame(arrival.data, f"frame {arrival.number}", self._limits.frame_pixels)
        decoded = now()
        picture = follower.begin(frame)
        header = {
            "frame": arrival.number,
            "face": follower.face_found,
            "started": follower.has_started,
            "skipped": skipped,
            "received": round(arrival.time, 2),
        }
        stages = {"wait": began - arrival.time, "decode": decoded - began}
        self._enqueue_reply(partial(self._send_reply, follower, picture, header, stages), follower.at_once)

    def _send_reply(
        self, follower: Follower, coming: Future[Image], header: dict[str, object], stages: dict[str, float]
    ) -> None:
        picture = coming.result()
        follower.measure()
        stages |= {name: 1000 * spent.busy for name, spent in follower.stages.items() if spent.busy}
        rendered = now()
        body = encode_frame(picture, self.format)
        sent = now()
        self._replies += 1
        stages["encode"] = sent - rendered
        header |= {
            "reply": self._replies,
            "sent": round(sent, 2),
            "stages": {name: round(spent, 2) for name, spent in stages.items()},
        }
        self._post(pack(header, body))

    def _default_follower(self) -> Follower:
        """The follower if no portrait was chosen: the gallery's first."""
        names = self._gallery.names
        if not names:
            raise UserError("there are no portraits: send a photo")
        return Follower(self._gallery.portrait(names[0]), self._options)

    def reset(self) -> None:
        """Restart motion from the next frame."""
        self._drain()
        if self._follower:
            self._follower.reset()

    def choose(self, name: str, photo: bytes | None = None) -> None:
        """Switch to the portrait with a name, or to a photo, which gets that name."""
        self._drain()
        try:
            portrait = self._portrait_named(name) if photo is None else self._open_photo(name, photo)
            if self._follower:
                self._follower.switch(portrait)
            else:
                self._follower = Follower(portrait, self._options)
            if self._speaker:
                self._speaker.begin(portrait, self._options)
        except UserError as error:
            self._send_json({"error": str(error), "portrait": name})
        else:
            self._send_json({"portrait": name})

    def _portrait_named(self, name: str) -> Portrait:
        return self._photos.get(name) or self._gallery.portrait(name)

    def _open_photo(self, name: str, photo: bytes) -> Portrait:
        size, most = picture_size(photo), self._limits.photo_pixels
        if size and size[0] * size[1] > most:
            raise UserError(f"{name} is {size[0]}x{size[1]} px: at most {most} pixels are accepted")
        portrait = self._gallery.open_photo(photo, name)
        self._photos.pop(name, None)
        self._photos[name] = portrait
        if len(self._photos) > self._limits.photos:
            del self._photos[next(iter(self._photos))]
        return portrait

    def change(self, values: object) -> None:
        """Replace all options."""
        if not isinstance(values, dict):
            raise UserError(f"options are {values!r}: give an object with option names and values")
        options = live_options(values)
        if self._limits.always_mark and not options.mark:
            raise UserError(ALWAYS_MARKED)
        self._drain()
        if self._follower:
            self._follower.change(options)
            if self._speaker:
                self._speaker.begin(self._follower.portrait, options)
        self._options = options
        self._send_json({"options": values})

    def fail(self, error: Exception) -> None:
        """Report an exception of the thread; after a `UserError` the stream continues."""
        if isinstance(error, Refusal):
            self._post(error)
        elif isinstance(error, UserError):
            self._send_json({"error": str(error)})
        else:
            _log.error("a live stream failed", exc_info=error)
            self._post(Refusal(INTERNAL_ERROR, "something went wrong: see the service's log"))

    def _send_json(self, message: dict[str, object]) -> None:
        self._post(json.dumps(message))

    def close(self) -> None:
        """Close the portraits; call it when the thread has ended."""
        self._sender.shutdown()
        if self._speaker:
            self._speaker.close()
        if self._follower:
            self._follower.close()
        for portrait in self._photos.values():
            portrait.close()


def now() -> float:
    """The server's monotonic clock, ms."""
    return 1000 * time.perf_counter()
