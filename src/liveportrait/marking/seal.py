"""The marking of finished files: what every front end's results go through before they take their names."""

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
    signer: Signer | None = None  # None: files are left as they are
    told: str = ""  # what was marked and how, for the summary
    notes: tuple[str, ...] = field(default=())

    def about(self, source: Path | None, sha256: str, watermark: Payload | None) -> Seal:
        """The same for a source's file with its SHA-256 ("" for pictures from Python) and the result's watermark."""
        if self.statement is None:
            return self
        said = watermark.text if watermark else ""
        return replace(
            self, statement=replace(self.statement, source_sha256=sha256, source=source, watermark=said)
        )

    def __call__(self, path: Path, name: Path) -> None:
        """Mark a finished file, which will be called `name`. Raises `UserError`."""
        if self.signer is not None and self.statement is not None and can_sign(path):
            sign(path, self.statement, self.signer, name)


@dataclass(frozen=True)
class Marker:
    """Who signs results, and whose networks made them."""

    weights: str = ""
    """name of the networks' weights"""
    weights_sha256: str = ""
    certificate: Path | None = None
    """a PEM file, see `load_signer`"""
    key: Path | None = None

    def seal(self, mark: bool, kind: str, out: Path, driving: Sequence[Path | None] = ()) -> Seal:
        """What marks a result of `kind` that will be written to `out`; made before any work.

        `driving` are the files that move it; None stands for pictures from Python. Once the source is open,
        `Seal.about` says which it was. Raises `UserError` where the certificate does not serve.
        """
        if not mark:
            return Seal(told="not marked: --no-mark")
        if not can_sign(out):
            what = f"{out.suffix} takes" if out.suffix else "a folder of PNG has"
            return Seal(told=f"marked: watermark ({what} no content credentials)")
        if not is_available():
            return Seal(
                told="marked: watermark (c2pa-python, which writes content credentials, is not installed)"
            )
        signer = load_signer(self.certificate, self.key)
        statement = Statement(
            kind,
            self.weights,
            self.weights_sha256,
            driving_sha256=tuple(sha256_of(path) for path in driving if path),
        )
        told = f"marked: watermark, content credentials ({signer.name})"
        return Seal(statement, signer, told, (signer.note,) if signer.note else ())
