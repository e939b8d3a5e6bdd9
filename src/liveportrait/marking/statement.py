"""What a result says of how it was made: the contents of its content credentials.

The words are those of the C2PA specification 2.2 (https://spec.c2pa.org) and of the IPTC's list of digital source
types. Nothing in it names a file, a folder, a person or a machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PROGRAM = "LivePortrait"
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
COMPOSITE = f"{SOURCE_TYPES}compositeWithTrainedAlgorithmicMedia"
# Of material that is made or changed by trained models or other generators.
GENERATED = (
    COMPOSITE,
    f"{SOURCE_TYPES}trainedAlgorithmicMedia",
    f"{SOURCE_TYPES}algorithmicMedia",
    f"{SOURCE_TYPES}compositeSynthetic",
)
ASSERTION = "org.liveportrait.result"
PARENT = "source"  # the name of the source among the ingredients


@dataclass(frozen=True)
class Statement:
    """How a result was made."""

    kind: str  # what was done: animate, edit, ...
    weights: str = ""  # name of the networks' weights; "" where it is not known
    weights_sha256: str = ""  # hexadecimal, as the others; "" where it is not known
    source_sha256: str = ""  # of the source's file; "" of pictures from Python
    driving_sha256: tuple[str, ...] = ()  # of the drivers' files
    source: Path | None = None  # the source's file: its own credentials, if it has any, go along

    def manifest(self, has_parent: bool) -> dict[str, Any]:
        """The manifest as c2pa's builder takes it; `has_parent`: the source's credentials go along."""
        program = {"name": PROGRAM, "version": program_version()}
        made = {"digitalSourceType": COMPOSITE, "softwareAgent": program}
        if has_parent:
            opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": [PARENT]}}
            actions = [opened, {"action": "c2pa.edited", **made}]
        else:
            actions = [{"action": "c2pa.created", **made}]
        return {
            "claim_generator_info": [program],
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": actions}, "created": True},
                {"label": ASSERTION, "data": self.facts(), "created": True},
            ],
        }

    def facts(self) -> Mapping[str, Any]:
        """What no word of C2PA's says."""
        named = {"name": self.weights, "sha256": self.weights_sha256}
        weights = {key: value for key, value in named.items() if value}
        facts: dict[str, Any] = {"kind": self.kind}
        if weights:
            facts["weights"] = weights
        if self.source_sha256:
            facts["source"] = {"sha256": self.source_sha256}
        if self.driving_sha256:
            facts["driving"] = [{"sha256": digest} for digest in self.driving_sha256]
        return facts


def program_version() -> str:
    """The version of this program."""
    try:
        return version("liveportrait")
    except PackageNotFoundError:  # its sources, not installed
        return "unknown"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
