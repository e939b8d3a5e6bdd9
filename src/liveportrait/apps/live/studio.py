"""What one visitor of the live stream is shown: pictures are made in a thread, to which everything here belongs.

Several are made side by side; a second thread waits for each in turn, encodes and sends it.
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
from liveportrait.apps.live.frames import FAILED, Refusal, decode_frame, encode_frame, pack, picture_size
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
    """A camera's frame as it came."""

    number: object  # the client's, given back
    data: bytes
    time: float  # ms


class Tick:
    """It is time for the next frame of a portrait that speaks."""


class Studio:
    """One portrait that follows a camera or speaks, and may be exchanged for another."""

    def __init__(
        self,
        gallery: Gallery,
        limits: LiveLimits,
        post: Callable[[bytes | str | Refusal], None],
        give_credit: Callable[[], None],
    ) -> None:
        """`post` sends a message, `give_credit` says that an answer was not needed."""
        self._gallery, self._limits, self._post, self._give_credit = gallery, limits, post, give_credit
        self._follower: Follower | None = None
        self._speaker: Speaker | None = None
        self._options = gallery.drive
        self._own: dict[str, Portrait] = {}  # photos that the visitor sent
        self._replies = 0  # pictures made
        self._sender = ThreadPoolExecutor(1, "live-sender")
        self._coming: deque[Future[None]] = deque()  # pictures that are being made
        self.format = "jpeg"
        """of pictures: jpeg or webp"""

    def work(self, asked: Arrival | Tick, skipped: int) -> None:
        """Answer a camera's frame, or a tick of the clock while the portrait speaks."""
        if isinstance(asked, Arrival):
            self._show(asked, skipped)
        elif self._speaker:
            self._utter(self._speaker, skipped)
        else:  # a tick before the voice begins gives its picture's place back
            self._give_credit()

    def _utter(self, speaker: Speaker, skipped: int) -> None:
        began = now()
        skipped = speaker.ask(skipped)
        self._send(partial(self._say, speaker, skipped, began), speaker.at_once)

    def _say(self, speaker: Speaker, skipped: int, began: float) -> None:
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

    def _send(self, job: Callable[[], None], at_once: int) -> None:
        """Have the second thread do a job, and wait until there is room for another picture."""

        def done() -> None:
            try:
                job()
            except Exception as error:  # told as those of the first thread are
                self.fail(error)

        self._coming.append(self._sender.submit(done))
        while len(self._coming) >= max(at_once, 1):
            self._coming.popleft().result()

    def _settle(self) -> None:
        """Wait until nothing is being made."""
        while self._coming:
            self._coming.popleft().result()

    def begin(self, speaker: Speaker | None, values: object) -> None:
        """Have the portrait speak, or follow the camera again."""
        self._settle()
        if self._speaker:
            self._speaker.close()
        self._speaker = None
        if speaker:
            follower = self._follower = self._follower or self._started()
            speaker.begin(follower.portrait, self._options)
            self._speaker = speaker
        self._tell({"voice": values})

    def _show(self, arrival: Arrival, skipped: int) -> None:
        follower = self._follower = self._follower or self._started()
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
        self._send(partial(self._answer, follower, picture, header, stages), follower.at_once)

    def _answer(
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

    def _started(self) -> Follower:
        """What follows the camera when nothing was chosen: the first portrait."""
        names = self._gallery.names
        if not names:
            raise UserError("there is no portrait yet: send a photo")
        return Follower(self._gallery.portrait(names[0]), self._options)

    def reset(self) -> None:
        """Motion starts from the next frame."""
        self._settle()
        if self._follower:
            self._follower.reset()

    def choose(self, name: str, photo: bytes | None = None) -> None:
        """Go on with the portrait of a name, or with a photo that gets it."""
        self._settle()
        try:
            portrait = self._named(name) if photo is None else self._opened(name, photo)
            if self._follower:
                self._follower.switch(portrait)
            else:
                self._follower = Follower(portrait, self._options)
            if self._speaker:
                self._speaker.begin(portrait, self._options)
        except UserError as error:
            self._tell({"error": str(error), "portrait": name})
        else:
            self._tell({"portrait": name})

    def _named(self, name: str) -> Portrait:
        return self._own.get(name) or self._gallery.portrait(name)

    def _opened(self, name: str, photo: bytes) -> Portrait:
        size, most = picture_size(photo), self._limits.photo_pixels
        if size and size[0] * size[1] > most:
            raise UserError(f"{name} is {size[0]}x{size[1]} px: at most {most} pixels are taken")
        portrait = self._gallery.open_photo(photo, name)
        self._own.pop(name, None)
        self._own[name] = portrait
        if len(self._own) > self._limits.photos:
            del self._own[next(iter(self._own))]
        return portrait

    def change(self, values: object) -> None:
        """Take options in place of all before."""
        if not isinstance(values, dict):
            raise UserError(f"options are {values!r}: give an object of names and values")
        options = live_options(values)
        if self._limits.always_mark and not options.mark:
            raise UserError(ALWAYS_MARKED)
        self._settle()
        if self._follower:
            self._follower.change(options)
            if self._speaker:
                self._speaker.begin(self._follower.portrait, options)
        self._options = options
        self._tell({"options": values})

    def fail(self, error: Exception) -> None:
        """Something was raised in the thread: what the visitor can mend is told, and the stream goes on."""
        if isinstance(error, Refusal):
            self._post(error)
        elif isinstance(error, UserError):
            self._tell({"error": str(error)})
        else:
            _log.error("a live stream failed", exc_info=error)
            self._post(Refusal(FAILED, "something went wrong here: the service's log says what"))

    def _tell(self, message: dict[str, object]) -> None:
        self._post(json.dumps(message))

    def close(self) -> None:
        """Let go of what was opened. The thread has ended."""
        self._sender.shutdown()
        if self._speaker:
            self._speaker.close()
        if self._follower:
            self._follower.close()
        for portrait in self._own.values():
            portrait.close()


def now() -> float:
    """The time by the server's own clock, ms."""
    return 1000 * time.perf_counter()
