"""Marking finished files: every front end's results go through this before they get their final names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from liveportrait.folders import sha256_of
from liveportrait.marking.certificate import Signer, load_signer
from liveportrait.marking.credentials import can_sign, is_available, sign
from liveportrait.marking.payload import Payload
from liveportrait.marking.statement import Statement


@dataclass(frozen=True)
class Seal:
    """Marks the finished files of one result."""

    statement: Statement | None = None
    signer: Signer | None = None  # None: files are left unchanged
    summary: str = ""  # what was marked and how
    notes: tuple[str, ...] = field(default=())

    def about(self, source: Path | None, sha256: str, watermark: Payload | None) -> Seal:
        """A copy that states the source's file, its SHA-256 ("" for arrays from Python) and the result's watermark."""
        if self.statement is None:
            return self
        text = watermark.text if watermark else ""
        return replace(
            self, statement=replace(self.statement, source_sha256=sha256, source=source, watermark=text)
        )

    def __call__(self, path: Path, name: Path) -> None:
        """Mark a finished file whose final name will be `name`. Raises `UserError`."""
        if self.signer is not None and self.statement is not None and can_sign(path):
            sign(path, self.statement, self.signer, name)


@dataclass(frozen=True)
class Marker:
    """Who signs results, and which networks made them."""

    weights: str = ""
    """name of the networks' weights"""
    weights_sha256: str = ""
    certificate: Path | None = None
    """a PEM file, see `load_signer`"""
    key: Path | None = None

    def seal(self, mark: bool, kind: str, out: Path, driving: Sequence[Path | None] = ()) -> Seal:
        """The seal for a result of `kind` that will be written to `out`; create it before any work starts.

        `driving` are the drivers' files, None for pictures from Python. Once the source is open, `Seal.about` adds it.
        Raises `UserError` if the certificate cannot be used.
        """
        if not mark:
            return Seal(summary="not marked: --no-mark")
        if not can_sign(out):
            what = f"{out.suffix} takes" if out.suffix else "a folder of PNG has"
            return Seal(summary=f"marked: watermark ({what} no content credentials)")
        if not is_available():
            return Seal(
                summary="marked: watermark (c2pa-python, which writes content credentials, is not installed)"
            )
        signer = load_signer(self.certificate, self.key)
        statement = Statement(
            kind,
            self.weights,
            self.weights_sha256,
            driving_sha256=tuple(sha256_of(path) for path in driving if path),
        )
        summary = f"marked: watermark, content credentials ({signer.name})"
        return Seal(statement, signer, summary, (signer.note,) if signer.note else ())
