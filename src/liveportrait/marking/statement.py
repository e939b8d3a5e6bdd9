"""The contents of a result's content credentials: how it was made.

The terms are those of the C2PA specification 2.2 (https://spec.c2pa.org) and of the IPTC's list of digital source
types. Nothing in it names a file, a folder, a person or a machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PROGRAM = "LivePortrait"
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
COMPOSITE = f"{SOURCE_TYPES}compositeWithTrainedAlgorithmicMedia"
# Source types of material made or changed by trained models or other generators.
GENERATED = (
    COMPOSITE,
    f"{SOURCE_TYPES}trainedAlgorithmicMedia",
    f"{SOURCE_TYPES}algorithmicMedia",
    f"{SOURCE_TYPES}compositeSynthetic",
)
ASSERTION = "org.liveportrait.result"
SOFT_BINDING = "c2pa.soft-binding"
WATERMARK = "org.liveportrait.watermark.1"  # the name of our watermark and its version
PARENT = "source"  # the name of the source among the ingredients


@dataclass(frozen=True)
class Statement:
    """How a result was made."""

    kind: str  # what was done: animate, edit, ...
    weights: str = ""  # name of the networks' weights; "" if unknown
    weights_sha256: str = ""  # hexadecimal, like the others; "" if unknown
    source_sha256: str = ""  # of the source's file; "" for pictures from Python
    driving_sha256: tuple[str, ...] = ()  # of the drivers' files
    source: Path | None = None  # the source's file: its own credentials, if it has any, are included
    watermark: str = ""  # the payload in the pixels, see `Payload.text`; "" if there is none

    def manifest(self, has_parent: bool) -> dict[str, Any]:
        """The manifest for c2pa's builder; `has_parent`: the source's credentials are included."""
        program = {"name": PROGRAM, "version": program_version()}
        made = {"digitalSourceType": COMPOSITE, "softwareAgent": program}
        if has_parent:
            opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": [PARENT]}}
            actions = [opened, {"action": "c2pa.edited", **made}]
        else:
            actions = [{"action": "c2pa.created", **made}]
        assertions: dict[str, Mapping[str, Any]] = {
            "c2pa.actions.v2": {"actions": actions},
            ASSERTION: self.facts(),
        }
        if self.watermark:  # lets these credentials be found again for a copy that has lost them
            actions.append({"action": "c2pa.watermarked.bound", "softwareAgent": program})
            assertions[SOFT_BINDING] = {
                "alg": WATERMARK,
                "blocks": [{"scope": {}, "value": self.watermark}],
            }
        return {
            "claim_generator_info": [program],
            "assertions": [
                {"label": label, "data": data, "created": True} for label, data in assertions.items()
            ],
        }

    def facts(self) -> Mapping[str, Any]:
        """The facts for which C2PA has no standard field."""
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
    except PackageNotFoundError:  # run from its sources without being installed
        return "unknown"
