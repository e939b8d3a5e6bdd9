"""Who may call the service: bearer tokens, and the checks a request passes before it reaches a route."""

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

MIN_TOKEN_LENGTH = 16  # characters
BODY_TIMEOUT_S = 60.0  # without a byte of a request's body
PROTECTED = ("/v1/", "/metrics")
_MAX_FORM_BYTES = 2**20  # of a request, not counting its files
_COUNTED_METHODS = ("GET", "HEAD", "POST", "DELETE")  # all others count as "other"
_MAX_FILES = 2  # files of the maximum size in one request
_TOKEN_SUBPROTOCOL = "bearer."
_POLICY_VIOLATION = 1008  # of a WebSocket, RFC 6455, 7.4.1


class Tokens:
    """The tokens that give access to the service, kept as digests. Without any, everyone has access."""

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self._digests = [_digest(token) for token in tokens]

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """Read a file with one token per line; empty lines and lines that start with # are ignored.

        Raises `UserError` if the file has no token, or one short enough to guess.
        """
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{path}: cannot read the tokens: give a text file with one token per line"
            ) from error
        tokens = [line for line in lines if line and not line.startswith("#")]
        if not tokens:
            raise UserError(
                f"{path} has no tokens: put one on each line, for example from openssl rand -hex 32"
            )
        for number, token in enumerate(tokens, 1):
            if len(token) < MIN_TOKEN_LENGTH or not token.isascii():
                raise UserError(
                    f"token {number} of {path} is too easy to guess: use at least {MIN_TOKEN_LENGTH} ASCII letters and"
                    " digits, for example from openssl rand -hex 32"
                )
        return cls(tokens)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def owner(self, token: str) -> str | None:
        """The name under which the token's jobs are kept; None for an unknown token. Runs in constant time."""
        digest = _digest(token)
        found = [hmac.compare_digest(digest, each) for each in self._digests]
        return digest.hex()[:16] if any(found) else None


def permissions_note(path: Path) -> str:
    """A warning if anyone but the owner may read a token file; "" otherwise."""
    mode = path.stat().st_mode & 0o777
    if not mode & 0o077:
        return ""
    return f"{path} has mode {mode:o}, so other users may read the tokens: chmod 600 {path}"


@dataclass
class Gate:
    """The outermost middleware: refuses a request because of its headers, and limits its body.

    If there are tokens, paths under `PROTECTED` require one: as a bearer token or, for a browser's WebSocket, which
    cannot send that header, as the subprotocol bearer.TOKEN. Pages from another site are always refused: a browser
    would let them post jobs to a service on the same machine.
    """

    application: ASGIApp
    settings: ServerSettings
    tokens: Tokens
    metrics: Metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            return await self.application(scope, receive, send)
        start = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                method = scope["method"] if scope["method"] in _COUNTED_METHODS else "other"
                self.metrics.answers.labels(method, status).observe(time.perf_counter() - start)
                if status >= 400:
                    self.metrics.refusals.labels(status).inc()
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is None:
            body = (
                _limited_body(receive, self._max_body_bytes(scope, headers))
                if scope["type"] == "http"
                else receive
            )
            return await self.application(scope, body, counted)
        status, sentence = refusal
        if scope["type"] == "websocket":
            self.metrics.refusals.labels(status).inc()
            await receive()
            return await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": sentence})
        challenge = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        await JSONResponse({"detail": sentence}, status, challenge)(scope, receive, counted)

    def _max_body_bytes(self, scope: Scope, headers: Headers) -> int | None:
        """The size limit of a request's body; None for routes that are not the service's own."""
        if not scope["path"].startswith(PROTECTED):
            return None
        brings_files = headers.get("content-type", "").startswith("multipart/")
        return _MAX_FORM_BYTES + (_MAX_FILES * self.settings.limits.max_bytes if brings_files else 0)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """The status and sentence of a refusal, if the request's headers call for one."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if origin and origin.partition("://")[2].lower() != host.lower():
            return 403, f"a page from {origin} may not use this service: open the service's own page"
        if self.settings.is_local and not self.tokens and not is_loopback(_without_port(host)):
            return (
                403,
                f"{host} is not a name of this machine: use localhost, or run the service with --tokens",
            )
        scope.setdefault("state", {})["owner"] = ""
        if self.tokens and scope["path"].startswith(PROTECTED):
            owner = self.tokens.owner(_token(headers))
            if owner is None:
                return 401, "a token is required: send Authorization: Bearer with one from the service's file"
            scope["state"]["owner"] = owner
        max_bytes, length = self._max_body_bytes(scope, headers), headers.get("content-length", "")
        if max_bytes is not None and length.isdecimal() and int(length) > max_bytes:
            return 413, f"the request has {length} bytes: at most {max_bytes} are accepted"
        return None


class BodyRefused(Exception):
    """A request's body is too long, or has stalled."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def _limited_body(receive: Receive, max_bytes: int | None) -> Receive:
    """Wrap `receive` so that it raises `BodyRefused` for a body beyond the limit or one that stalls."""
    seen, complete = 0, max_bytes is None

    async def limited() -> Message:
        nonlocal seen, complete
        if complete or max_bytes is None:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), BODY_TIMEOUT_S)
        except TimeoutError as error:
            raise BodyRefused(
                408, f"the request sent nothing for {BODY_TIMEOUT_S:g} s: send it again"
            ) from error
        seen += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if seen > max_bytes:
            raise BodyRefused(413, f"the request is longer than {max_bytes} bytes: send less")
        return message

    return limited


def _without_port(host: str) -> str:
    """The name or address in a `Host` header."""
    name, _, port = host.rpartition(":")
    return name if port.isdecimal() else host


def _token(headers: Headers) -> str:
    """The token that a request carries, or ""."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    offered = headers.get("sec-websocket-protocol", "").split(",")
    named = (each.strip() for each in offered)
    return next(
        (each.removeprefix(_TOKEN_SUBPROTOCOL) for each in named if each.startswith(_TOKEN_SUBPROTOCOL)), ""
    )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
