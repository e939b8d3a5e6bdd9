"""Who may call: bearer tokens, and what a request has to show before a route sees it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from liveportrait.apps.server.metrics import Metrics
from liveportrait.apps.server.settings import ServerSettings, is_loopback
from liveportrait.errors import UserError

SHORTEST = 16  # letters of a token
SILENCE_S = 60.0  # for which nothing of a request's body may come
PROTECTED = ("/v1/", "/metrics")
_FORM_BYTES = 2**20  # of a request beside its files
_METHODS = ("GET", "HEAD", "POST", "DELETE")  # that are counted by name
_FILES = 2  # as large as may be, in one request
_TEXT_SUBPROTOCOL = "bearer."
_POLICY_VIOLATION = 1008  # of a WebSocket, RFC 6455, 7.4.1


class Tokens:
    """The tokens that open the service, kept as digests. Without any it is open."""

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self._digests = [_digest(token) for token in tokens]

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """The tokens in a file, one a line; empty lines and those that begin with # do not count.

        Raises `UserError` where there is none, or one that is short enough to be guessed.
        """
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: the tokens cannot be read: give a text file with one a line") from error
        tokens = [line for line in lines if line and not line.startswith("#")]
        if not tokens:
            raise UserError(f"{path} holds no token: write one a line, such as openssl rand -hex 32 gives")
        for number, token in enumerate(tokens, 1):
            if len(token) < SHORTEST or not token.isascii():
                raise UserError(
                    f"token {number} of {path} can be guessed: take {SHORTEST} plain letters and digits or more,"
                    " such as openssl rand -hex 32 gives"
                )
        return cls(tokens)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def owner(self, token: str) -> str | None:
        """The name under which the token's jobs are kept; None for a wrong one. Takes as long for each."""
        digest = _digest(token)
        found = [hmac.compare_digest(digest, each) for each in self._digests]
        return digest.hex()[:16] if any(found) else None


def permissions_note(path: Path) -> str:
    """A sentence where others than its owner may read a file of tokens, "" where they may not."""
    mode = path.stat().st_mode & 0o777
    if not mode & 0o077:
        return ""
    return f"{path} has mode {mode:o}, others than you may read the tokens: chmod 600 {path}"


@dataclass
class Gate:
    """The outermost part of the application: refuses a request for what its head says, and limits its body.

    Under `PROTECTED` a token is asked for where there are some: as a bearer, or of a WebSocket from a browser, which
    cannot send one, as the subprotocol bearer.TOKEN. A page of another site is refused everywhere: a browser would
    let it post jobs to a service on the same machine.
    """

    application: ASGIApp
    settings: ServerSettings
    tokens: Tokens
    metrics: Metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] == "lifespan":
            return await self.application(scope, receive, send)
        start = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self.metrics.answers.labels(method, status).observe(time.perf_counter() - start)
                if status >= 400:
                    self.metrics.refusals.labels(status).inc()
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is None:
            body = _limited(receive, self._most(scope, headers)) if scope["type"] == "http" else receive
            return await self.application(scope, body, counted)
        status, sentence = refusal
        if scope["type"] == "websocket":
            self.metrics.refusals.labels(status).inc()
            await receive()
            return await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": sentence})
        challenge = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        await JSONResponse({"detail": sentence}, status, challenge)(scope, receive, counted)

    def _most(self, scope: Scope, headers: Headers) -> int | None:
        """How many bytes a request's body may have; None for the routes that are not the service's own."""
        if not scope["path"].startswith(PROTECTED):
            return None
        brings_files = headers.get("content-type", "").startswith("multipart/")
        return _FORM_BYTES + (_FILES * self.settings.limits.max_bytes if brings_files else 0)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """Status and sentence, where the head of a request is reason enough to refuse it."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if origin and origin.partition("://")[2].lower() != host.lower():
            return 403, f"a page of {origin} may not use this service: open the service's own page"
        if self.settings.is_local and not self.tokens and not is_loopback(_without_port(host)):
            return 403, f"{host} is not a name of this machine: call it localhost, or run it with --tokens"
        scope.setdefault("state", {})["owner"] = ""
        if self.tokens and scope["path"].startswith(PROTECTED):
            owner = self.tokens.owner(_token(headers))
            if owner is None:
                return 401, "this needs a token: send Authorization: Bearer with one from the service's file"
            scope["state"]["owner"] = owner
        most, length = self._most(scope, headers), headers.get("content-length", "")
        if most is not None and length.isdecimal() and int(length) > most:
            return 413, f"the request has {length} bytes: {most} are taken"
        return None


class BodyRefused(Exception):
    """A request's body goes on for too long, or does not go on."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def _limited(receive: Receive, most: int | None) -> Receive:
    """The messages of a request. Raises `BodyRefused` for a body beyond the limit, and for one that stops."""
    seen, complete = 0, most is None

    async def limited() -> Message:
        nonlocal seen, complete
        if complete or most is None:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), SILENCE_S)
        except TimeoutError as error:
            raise BodyRefused(
                408, f"nothing more of the request came for {SILENCE_S:g} s: send it again"
            ) from error
        seen += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if seen > most:
            raise BodyRefused(413, f"the request goes on beyond {most} bytes: send less")
        return message

    return limited


def _without_port(host: str) -> str:
    """The name or address in a `Host`."""
    name, _, port = host.rpartition(":")
    return name if port.isdecimal() else host


def _token(headers: Headers) -> str:
    """The token that a request shows, "" where it shows none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    offered = headers.get("sec-websocket-protocol", "").split(",")
    named = (each.strip() for each in offered)
    return next(
        (each.removeprefix(_TEXT_SUBPROTOCOL) for each in named if each.startswith(_TEXT_SUBPROTOCOL)), ""
    )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
