"""`model.json`, the metadata next to the weights: which networks they are and where they come from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from liveportrait.errors import UserError
from liveportrait.media.files import check_input
from liveportrait.networks.expression import ExpressionSizes
from liveportrait.networks.retargeting import RetargetingSizes
from liveportrait.networks.variants import ARCHITECTURES, Variant

CARD_FILE = "model.json"
FORMAT = "liveportrait-weights"
VERSION = 1
FORMER_BORDER = "continues_border"  # the name of `Variant.replicate_border` in earlier cards

MAX_BYTES = 2**22  # of a card


@dataclass(frozen=True)
class Metadata:
    """Facts that only the creator of the weights knows."""

    origin: str  # where they come from: a training run, a repository and its commit
    licence: str  # the terms on which they may be used
    training: Mapping[str, Any] = field(default_factory=dict)  # anything worth keeping, as JSON


@dataclass(frozen=True)
class Card:
    """The contents of `model.json`."""

    variant: Variant
    networks: tuple[str, ...]  # the ones in the file, by their attribute in `Networks`
    sha256: str  # of model.safetensors, hexadecimal
    metadata: Metadata


def write_card(card: Card, path: Path) -> None:
    """Writes a new `model.json`."""
    variant = dataclasses.asdict(card.variant) | {"architecture": card.variant.architecture}
    content = {
        "format": FORMAT,
        "version": VERSION,
        "variant": variant,
        "networks": list(card.networks),
        "sha256": card.sha256,
        "origin": card.metadata.origin,
        "licence": card.metadata.licence,
        "training": dict(card.metadata.training),
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_card(folder: Path) -> Card:
    """The card in a folder of weights.

    Raises UserError if it is damaged, or was written by a later version of the program.
    """
    path = folder / CARD_FILE
    if path.exists() and check_input(path).stat().st_size > MAX_BYTES:
        raise UserError(f"{path} is damaged: it is larger than the allowed {MAX_BYTES} bytes")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, not {FORMAT!r}")
        version = content["version"]
        if version == VERSION:
            return Card(
                variant=_read_variant(content["variant"]),
                networks=tuple(content["networks"]),
                sha256=content["sha256"],
                metadata=Metadata(content["origin"], content["licence"], content["training"]),
            )
    except KeyError as error:
        raise UserError(f"{path} is damaged: it has no entry {error}") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    raise UserError(f"{path} has version {version}, but this program reads {VERSION}: update liveportrait")


def _read_variant(content: Mapping[str, Any]) -> Variant:
    architecture = content["architecture"]
    if architecture not in ARCHITECTURES:
        raise ValueError(f"its architecture is {architecture!r}, not one of {', '.join(ARCHITECTURES)}")
    border = FORMER_BORDER if FORMER_BORDER in content else "replicate_border"
    return Variant(
        name=_restore(str, content["name"]),
        input_size=_restore(int, content["input_size"]),
        output_size=_restore(int, content["output_size"]),
        sizes=_restore(ARCHITECTURES[architecture], content["sizes"]),
        retargeting=_restore(RetargetingSizes, content["retargeting"]),
        expression=_restore(ExpressionSizes, content.get("expression", {})),  # earlier cards have none
        replicate_border=_restore(bool, content[border]),
    )


def _restore(kind: Any, content: Any) -> Any:
    """A value of the annotated type `kind`, which may be a (nested) dataclass, from parsed JSON."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        kinds = get_type_hints(kind)
        if not isinstance(content, dict) or not content.keys() <= kinds.keys():
            raise ValueError(f"{content!r} does not give the sizes of {kind.__module__}.{kind.__qualname__}")
        return kind(**{name: _restore(kinds[name], value) for name, value in content.items()})
    if isinstance(content, list):
        return tuple(_restore(None, item) for item in content)
    if isinstance(kind, type) and not isinstance(content, kind):
        raise ValueError(f"{content!r} should be of type {kind.__name__}")
    return content
