"""A client for the service. It needs httpx, but none of the networks.

>>> with Client("http://127.0.0.1:8000") as client:
...     job = client.submit("animate", source=Path("me.jpg"), driving=["smile"], options={"lock-head": True})
...     client.wait(job, progress=lambda status: print(status.step, status.done, status.total))
...     client.fetch(job, Path("smile.mp4"))
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import httpx

from liveportrait.apps.live.client import File, ServiceError, Stream, VoiceStream
from liveportrait.folders import unfinished_beside
from liveportrait.types import Closeable

JobKind = Literal["animate", "edit", "speak", "template"]
_CHUNK = 2**20
_RETRY_S = 1.0


@dataclass(frozen=True)
class JobStatus:
    """The state of a job; times are Unix times."""

    id: str
    kind: JobKind
    state: Literal["queued", "running", "done", "failed", "cancelled", "expired"]
    before: int = 0
    step: str = ""
    done: int = 0
    total: int | None = None
    frames_per_second: float | None = None
    seconds_left: float | None = None
    frames: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    error: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether the job has ended."""
        return self.state not in ("queued", "running")


class Client(Closeable):
    """A connection to a service. It may be shared between threads."""

    def __init__(self, url: str = "http://127.0.0.1:8000", token: str = "", timeout: float = 60.0) -> None:
        """`timeout`: seconds of silence from the service after which a call gives up."""
        self._url, self._token = url.rstrip("/"), token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=timeout)

    def post_source(self, path: Path) -> str:
        """Post a file unless the service already has it, and return its id."""
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
            if self._http.get(f"/v1/sources/{digest.hexdigest()}").status_code == 200:
                return digest.hexdigest()
            file.seek(0)
            return str(self._json("POST", "/v1/sources", files={"file": (path.name, file)})["id"])

    def verify(self, path: Path) -> dict[str, Any]:
        """What a picture or video says about how it was made: `marked`, `credentials`. Raises `ServiceError`."""
        with path.open("rb") as file:
            return self._json("POST", "/v1/verify", files={"file": (path.name, file)})

    def submit(
        self,
        kind: JobKind,
        source: File | None = None,
        driving: Sequence[File] = (),
        options: Mapping[str, object] | None = None,
        files: Mapping[str, File] | None = None,
        format: str = "",
        patience: float = 0.0,
    ) -> str:
        """Post a job, and return its id.

        `options` are named as on the command line, `files` holds the files of options that take one, and `format` is
        the result's suffix. If the queue is full or the service is down, it is retried for `patience` seconds; the job
        still runs only once. Raises `ServiceError`.
        """
        asked = {
            "kind": kind,
            "source": None if source is None else self._posted(source),
            "driving": [self._posted(each) for each in driving],
            "options": dict(options or {}),
            "files": {name: self._posted(each) for name, each in (files or {}).items()},
            "format": format,
        }
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        last = time.monotonic() + patience
        while True:
            pause = _RETRY_S
            try:
                answer = self._http.post("/v1/jobs", json=asked, headers=headers)
                pause = float(answer.headers.get("Retry-After", pause))
                if answer.status_code not in (429, 503) or time.monotonic() + pause > last:
                    return str(_content(answer)["id"])
            except httpx.TransportError as error:
                if time.monotonic() + pause > last:
                    raise ServiceError(f"{self._url} does not answer: {error}") from error
            time.sleep(pause)

    def speak(
        self,
        source: File,
        speech: File | None = None,
        text: str = "",
        options: Mapping[str, object] | None = None,
        files: Mapping[str, File] | None = None,
        format: str = "",
        patience: float = 0.0,
    ) -> str:
        """Post a job in which `source` says what is heard in `speech`, or `text`, and return its id; see `submit`."""
        said = {"text": text} if text else {}
        driving = [] if speech is None else [speech]
        return self.submit("speak", source, driving, {**(options or {}), **said}, files, format, patience)

    def status(self, job: str) -> JobStatus:
        """The state of a job. Raises `ServiceError`."""
        return _status(self._json("GET", f"/v1/jobs/{job}"))

    def follow(self, job: str, patience: float = 60.0) -> Iterator[JobStatus]:
        """Yield the job's state at every change until it ends. Tolerates an outage of up to `patience` seconds."""
        last = time.monotonic() + patience
        while True:
            with suppress(httpx.TransportError), self._http.stream("GET", f"/v1/jobs/{job}/events") as events:
                if events.is_error:
                    events.read()
                    _content(events)
                for line in events.iter_lines():
                    if line.startswith("data: "):
                        last = time.monotonic() + patience
                        yield (status := _status(json.loads(line.removeprefix("data: "))))
                        if status.is_finished:
                            return
            if time.monotonic() > last:
                raise ServiceError(f"{self._url} does not answer")
            time.sleep(_RETRY_S)

    def wait(self, job: str, progress: Callable[[JobStatus], None] = lambda status: None) -> JobStatus:
        """Wait for a job to end. Raises `ServiceError` if it has no result."""
        for status in self.follow(job):
            progress(status)
        if status.state != "done":
            raise ServiceError(status.error or f"the job was {status.state}")
        return status

    def fetch(self, job: str, out: Path, compare: bool = False) -> Path:
        """Write the result of a finished job, or the comparison if it made one, to `out`. Raises `ServiceError`."""
        place = f"/v1/jobs/{job}/result"
        with self._http.stream("GET", place, params={"compare": compare}) as answer:
            if answer.is_error:
                answer.read()
                _content(answer)
            with unfinished_beside(out) as partial:
                with partial.open("xb") as file:
                    for chunk in answer.iter_bytes(_CHUNK):
                        file.write(chunk)
                partial.replace(out)
        return out

    def cancel(self, job: str) -> JobStatus:
        """Stop a job, or delete the result of one that is done. Raises `ServiceError`."""
        return _status(self._json("DELETE", f"/v1/jobs/{job}"))

    def stream(self, portrait: File | None = None, options: Mapping[str, object] | None = None) -> Stream:
        """A live stream in which a portrait follows the frames of a camera.

        `portrait` is a photo, or the name of one of the service's portraits. Raises `ServiceError`.
        """
        return Stream(self._url, self._token, portrait, options or {})

    def voice(self, portrait: File | None = None, speech: Mapping[str, object] | None = None) -> VoiceStream:
        """A live stream in which a portrait speaks the sound sent to it, with these speech options.

        Raises `ServiceError`.
        """
        return VoiceStream(self._url, self._token, portrait, speech or {})

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _posted(self, file: File) -> str:
        return self.post_source(file) if isinstance(file, Path) else file

    def _json(self, method: str, place: str, **sent: Any) -> dict[str, Any]:
        return _content(self._http.request(method, place, **sent))


def _status(content: Mapping[str, Any]) -> JobStatus:
    known = {each.name for each in fields(JobStatus)}
    values = {name: value for name, value in content.items() if name in known}
    return JobStatus(**{**values, "notes": tuple(content.get("notes", ()))})


def _content(answer: httpx.Response) -> dict[str, Any]:
    """The body of a response. Raises `ServiceError` if it is a refusal."""
    try:
        content = answer.json()
    except ValueError:
        content = {"detail": answer.text[:200] or f"{answer.url} responded with status {answer.status_code}"}
    if answer.is_error:
        raise ServiceError(str(content.get("detail", content)), answer.status_code)
    return dict(content)
