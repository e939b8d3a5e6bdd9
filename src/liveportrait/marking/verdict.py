"""Verifying files: what their content credentials and watermark, taken together, say about how they were made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liveportrait.errors import UserError
from liveportrait.marking.credentials import Credentials, is_available, printable, read_credentials
from liveportrait.marking.film import Stretch, watermarks
from liveportrait.marking.payload import Payload
from liveportrait.media import media_kind


@dataclass(frozen=True)
class Verdict:
    """What one file says about how it was made."""

    path: Path
    credentials: Credentials | None = None
    watermark: tuple[Stretch, ...] = ()  # the stretches of frames that carry one

    @property
    def marked(self) -> bool:
        """Whether the file says that it is generated and nothing contradicts that."""
        found = self.credentials
        if found is not None and found.state == "broken":
            return False
        return bool(self.watermark) or (found is not None and found.intact and found.generated)

    def lines(self, name: str = "") -> list[str]:
        """The verdict as text, one line per finding; `name` is shown instead of the path."""
        result = "marked as generated" if self.marked else self._why_not()
        return [f"{name or self.path}: {result}", *self._credentials(), *self._watermark()]

    def as_json(self) -> dict[str, Any]:
        """The verdict for programs, without the file's name."""
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
        if self.credentials is not None and self.credentials.state == "broken":
            return "altered since it was marked"
        return "not marked as generated"

    def _watermark(self) -> list[str]:
        lines = []
        for first, last, payload in self.watermark:
            frames = f" in frames {first} to {last}" if last else ""
            if payload is None:
                text = "present, but too weak to be read"
            else:
                source = f", source's SHA-256 starts with {payload.source:04x}" if payload.source else ""
                text = f"{payload.work}{source}{self._compared(payload)}"
            lines.append(f"  watermark{frames}: {text}")
        return lines or ["  no watermark"]

    def _compared(self, payload: Payload) -> str:
        """Whether intact credentials name this watermark."""
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
            "trusted": f"content credentials: valid, signed by {by} (known signer)",
            "valid": f"content credentials: valid, signed by {by} (unknown signer)",
            "broken": f"content credentials: broken: the file was altered after {by} signed it",
            "unreadable": "content credentials: cannot be read",
            "elsewhere": "content credentials: stored at an address, which is not fetched",
        }[found.state]
        lines = [first]
        if found.program:
            lines.append(f"made with: {found.program}")
        if found.source_types:
            lines.append(f"source type: {', '.join(found.source_types)}")
        for name, value in found.facts.items():
            lines.append(f"{printable(name)}: {_in_words(value)}")
        lines += [f"problem: {problem}" for problem in found.problems]
        return [f"  {line}" for line in lines]


def _in_words(value: Any) -> str:
    """A fact from a file, on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{printable(key)} {_in_words(each)}" for key, each in value.items())
    if isinstance(value, list):
        return "; ".join(map(_in_words, value))
    return printable(value)


def verify(path: str | Path, trust: str | Path | None = None) -> Verdict:
    """What a picture or video says about how it was made.

    `trust` is a PEM file with the certificates of known signers, in addition to this user's development certificate.
    Nothing is fetched. Raises `UserError` if the file is neither a picture nor a video, or the C2PA library is missing.
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
        raise UserError(f"{trust} contains no PEM certificate: export it again")
    return content
