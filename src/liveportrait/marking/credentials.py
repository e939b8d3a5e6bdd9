"""Writing and reading content credentials (C2PA) in files, without network access."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from liveportrait.errors import UserError
from liveportrait.folders import unfinished_beside
from liveportrait.marking.certificate import Signer, development_root
from liveportrait.marking.statement import (
    ASSERTION,
    GENERATED,
    PARENT,
    SOFT_BINDING,
    SOURCE_TYPES,
    WATERMARK,
    Statement,
)

# Output formats that support credentials; .webm and .mkv do not.
FORMATS = {
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
}
# Nothing is fetched: no manifests, no certificate revocations, no time stamps.
_SETTINGS: dict[str, Any] = {
    "version": 1,
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": True},
    "builder": {"thumbnail": {"enabled": False}},
}
_UNTRUSTED = "signingCredential.untrusted"
_MAX_LENGTH = 200  # characters of a text from a file

State = Literal["trusted", "valid", "broken", "unreadable", "elsewhere"]


@dataclass(frozen=True)
class Credentials:
    """What a file's credentials say, and whether they are valid."""

    state: State
    """trusted: unchanged, by a known signer; valid: unchanged, by an unknown signer; broken: the file was changed
    after signing; unreadable; elsewhere: stored at an address, which is not fetched"""
    signer: str = ""
    program: str = ""  # that wrote them
    source_types: tuple[str, ...] = ()  # IPTC terms for how the material was made
    facts: Mapping[str, Any] = field(default_factory=dict)
    """for results of this program, see `Statement.facts`"""
    watermark: str = ""  # the payload that they say is in the pixels, see `Payload.text`
    problems: tuple[str, ...] = ()  # as worded by the C2PA library

    @property
    def intact(self) -> bool:
        """Whether the file is unchanged since they were written."""
        return self.state in ("trusted", "valid")

    @property
    def generated(self) -> bool:
        """Whether they say that the material was made or changed by a generator."""
        return any(SOURCE_TYPES + kind in GENERATED for kind in self.source_types)


def can_sign(path: Path) -> bool:
    """Whether the file format, given by its suffix, supports credentials."""
    return path.suffix.lower() in FORMATS


def is_available() -> bool:
    """Whether the C2PA library is installed: it does not exist for every platform."""
    try:
        import c2pa  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def sign(path: Path, statement: Statement, signer: Signer, name: Path | None = None) -> None:
    """Write credentials into a finished file, which is replaced in one step or stays unchanged.

    `name` is used in error messages. Raises `UserError` if the credentials cannot be written.
    """
    from c2pa import C2paError

    try:
        with unfinished_beside(path, path.suffix) as temporary:
            with path.open("rb") as original, temporary.open("w+b") as signed:
                _sign(original, signed, FORMATS[path.suffix.lower()], statement, signer)
            temporary.replace(path)
    except (C2paError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"{name or path} cannot be marked with content credentials ({reason}): make sure that there is room on the"
            " disk and that the certificate may be used for signing"
        ) from error


def _sign(
    original: BinaryIO, signed: BinaryIO, media_type: str, statement: Statement, signer: Signer
) -> None:
    import c2pa

    information = c2pa.C2paSignerInfo(signer.algorithm.encode(), signer.chain, signer.key, None)
    parent = statement.source if _has_credentials(statement.source) else None
    with (
        c2pa.Context.from_dict(_SETTINGS) as context,
        c2pa.Signer.from_info(information) as by,
        c2pa.Builder(statement.manifest(parent is not None), context) as builder,
    ):
        if parent is not None:
            with parent.open("rb") as source:
                ingredient = {"title": PARENT, "relationship": "parentOf", "label": PARENT}
                builder.add_ingredient(json.dumps(ingredient), _media_type(parent), source)
        builder.sign(by, media_type, original, signed)


def _media_type(path: Path) -> str:
    return FORMATS.get(path.suffix.lower(), path.suffix.lower().removeprefix("."))


def _has_credentials(path: Path | None) -> bool:
    """Whether a file, which may have been removed since it was opened, has intact credentials."""
    if path is None or not path.is_file():
        return False
    found = read_credentials(path)
    return found is not None and found.intact


def read_credentials(path: Path, trust: bytes | None = None) -> Credentials | None:
    """The credentials in a file; None if it has none, or its format does not support them.

    `trust` is PEM certificates of known signers, in addition to the development certificate. Raises `UserError` if the
    file cannot be opened.
    """
    import c2pa

    anchors = b"".join(filter(None, (development_root(), trust))).decode("ascii", "replace")
    settings = _SETTINGS | ({"trust": {"user_anchors": anchors}} if anchors else {})
    try:
        with path.open("rb") as file, c2pa.Context.from_dict(settings) as context:
            reader = c2pa.Reader.try_create(file, context=context)
            return None if reader is None else _read(reader)
    except c2pa.C2paError.NotSupported:
        return None
    except c2pa.C2paError as error:
        elsewhere = str(error).startswith("Remote")  # "must fetch ...", which we do not
        return Credentials("elsewhere" if elsewhere else "unreadable", problems=(printable(error),))
    except OSError as error:
        raise UserError(f"{path} cannot be opened: {error.strerror}") from error


def _read(reader: Any) -> Credentials:
    with reader:
        content = _mapping(json.loads(reader.json()))
    manifests, results = _mapping(content.get("manifests")), _mapping(content.get("validation_results"))
    manifest = _mapping(manifests.get(str(content.get("active_manifest"))))
    state = str(content.get("validation_state"))
    found = _mappings(_mapping(results.get("activeManifest")).get("failure"))
    failures = [each for each in found if each.get("code") != _UNTRUSTED]
    assertions = {
        str(each.get("label")): _mapping(each.get("data")) for each in _mappings(manifest.get("assertions"))
    }
    actions = [
        action
        for label, data in assertions.items()
        if label.startswith("c2pa.actions")
        for action in _mappings(data.get("actions"))
    ]
    kinds = [printable(action.get("digitalSourceType")) for action in actions]
    by = _mapping(manifest.get("signature_info"))
    program = next(iter(_mappings(manifest.get("claim_generator_info"))), {})
    return Credentials(
        state="trusted" if state == "Trusted" else "valid" if state == "Valid" and not failures else "broken",
        signer=printable(by.get("issuer") or by.get("common_name")),
        program=" ".join(printable(program[key]) for key in ("name", "version") if program.get(key)),
        source_types=tuple(dict.fromkeys(kind.removeprefix(SOURCE_TYPES) for kind in kinds if kind)),
        facts=assertions.get(ASSERTION, {}),
        watermark=_watermark(assertions.get(SOFT_BINDING, {})),
        problems=tuple(printable(each.get("explanation") or each.get("code")) for each in failures),
    )


def _watermark(binding: Mapping[str, Any]) -> str:
    """The payload of our watermark in a soft binding; "" if there is none."""
    block = next(iter(_mappings(binding.get("blocks"))), {})
    return printable(block.get("value")) if binding.get("alg") == WATERMARK else ""


# Other people's files may contain anything.


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def printable(value: object) -> str:
    """Text from a file as one short line without characters that affect a terminal."""
    return "".join(letter for letter in str(value or "") if letter.isprintable())[:_MAX_LENGTH]
