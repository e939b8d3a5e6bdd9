"""What files say of how they were made: content credentials and watermark, read together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liveportrait.errors import UserError
from liveportrait.marking.credentials import Credentials, is_available, printed, read_credentials
from liveportrait.marking.film import Stretch, watermarks
from liveportrait.marking.payload import Payload
from liveportrait.media import media_kind


@dataclass(frozen=True)
class Verdict:
    """What one file says of itself."""

    path: Path
    credentials: Credentials | None = None
    watermark: tuple[Stretch, ...] = ()  # the frames that carry one

    @property
    def marked(self) -> bool:
        """Whether it says that it is generated, and nothing speaks against it."""
        found = self.credentials
        if found is not None and found.state == "broken":
            return False
        return bool(self.watermark) or (found is not None and found.intact and found.generated)

    def lines(self, name: str = "") -> list[str]:
        """The same for people, a line for each thing that was found; `name` is what the file is called."""
        said = "marked as generated" if self.marked else self._why_not()
        return [f"{name or self.path}: {said}", *self._credentials(), *self._watermark()]

    def as_json(self) -> dict[str, Any]:
        """The same for programs; the file has no name here."""
        found = self.credentials
        credentials = found and {
            "state": found.state,
            "signer": found.signer,
            "program": found.program,
            "generated": found.generated,
            "source_types": list(found.source_types),
            "facts": dict(found.facts),
            "watermark": found.watermark,
            "problems": list(found.problems),
        }
        watermark = [
            {
                "first": each.first,
                "last": each.last,
                "work": each.payload and each.payload.work,
                "source": each.payload and f"{each.payload.source:04x}",
                "weights": each.payload and f"{each.payload.weights:02x}",
                "text": each.payload and each.payload.text,
            }
            for each in self.watermark
        ]
        return {"marked": self.marked, "credentials": credentials, "watermark": watermark}

    def _why_not(self) -> str:
        if (
            self.credentials is not None
            and not self.credentials.intact
            and self.credentials.state == "broken"
        ):
            return "altered since it was marked"
        return "not marked as generated"

    def _watermark(self) -> list[str]:
        lines = []
        for first, last, payload in self.watermark:
            frames = f" in frames {first} to {last}" if last else ""
            if payload is None:
                said = "there, too weak for what it says"
            else:
                known = f", source's SHA-256 begins with {payload.source:04x}" if payload.source else ""
                said = f"{payload.work}{known}{self._compared(payload)}"
            lines.append(f"  watermark{frames}: {said}")
        return lines or ["  no watermark"]

    def _compared(self, payload: Payload) -> str:
        """Whether the credentials speak of a watermark, if they hold."""
        found = self.credentials
        if found is None or not found.intact or not found.watermark:
            return ""
        return (
            "; the credentials name it"
            if found.watermark == payload.text
            else "; the credentials name another"
        )

    def _credentials(self) -> list[str]:
        found = self.credentials
        if found is None:
            return ["  no content credentials"]
        by = found.signer or "an unnamed signer"
        first = {
            "trusted": f"content credentials: valid, by {by} (known here)",
            "valid": f"content credentials: valid, by {by} (not known here)",
            "broken": f"content credentials: broken, once by {by}: the file was altered since",
            "unreadable": "content credentials: cannot be read",
            "elsewhere": "content credentials: kept at an address, which is not fetched",
        }[found.state]
        lines = [first]
        if found.program:
            lines.append(f"made with: {found.program}")
        if found.source_types:
            lines.append(f"source type: {', '.join(found.source_types)}")
        for name, value in found.facts.items():
            lines.append(f"{printed(name)}: {_in_words(value)}")
        lines += [f"problem: {problem}" for problem in found.problems]
        return [f"  {line}" for line in lines]


def _in_words(value: Any) -> str:
    """A fact from a file, on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{printed(key)} {_in_words(each)}" for key, each in value.items())
    if isinstance(value, list):
        return "; ".join(map(_in_words, value))
    return printed(value)


def verify(path: str | Path, trust: str | Path | None = None) -> Verdict:
    """What a picture or video says of how it was made.

    `trust`: a PEM file of certificates whose signatures are known, beside the one made for this user. Nothing is
    fetched. Raises `UserError` where a file is neither picture nor video, or the C2PA library is missing.
    """
    path = Path(path)
    media_kind(path)
    if not is_available():
        raise UserError("reading content credentials needs c2pa-python: pip install c2pa-python")
    return Verdict(path, read_credentials(path, _trusted(trust)), watermarks(path))


def _trusted(trust: str | Path | None) -> bytes | None:
    if trust is None:
        return None
    try:
        content = Path(trust).read_bytes()
    except OSError as error:
        raise UserError(f"{trust} cannot be read: {error.strerror}") from error
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise UserError(f"{trust} holds no certificate in PEM: export it anew")
    return content
