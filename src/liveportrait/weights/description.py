"""Descriptions of weights, made without loading them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from liveportrait.errors import UserError
from liveportrait.networks import BASE, Networks, Variant
from liveportrait.weights import published
from liveportrait.weights.card import CARD_FILE, Metadata, read_card
from liveportrait.weights.catalogue import CATALOGUE, PUBLISHED_REPOSITORY, Entry, resolve
from liveportrait.weights.checks import blueprint, parameter_count
from liveportrait.weights.store import WEIGHTS_FILE, described_networks


@dataclass(frozen=True)
class Description:
    """One set of weights, for people to read."""

    name: str  # in the catalogue, or the path as it was given
    summary: str  # "" for a path
    layout: Literal["safetensors", "published", "not fetched"]
    folder: Path  # where it is, or will be once fetched
    variant: Variant
    parameters: dict[str, int]  # numbers learned, by network; absent networks are not listed
    size: int  # on disk, bytes; 0 where not fetched
    sha256: str  # of model.safetensors; "" where there is none
    metadata: Metadata


def describe(name_or_path: str | Path) -> Description:
    """The description of the weights of that name or path. Raises UserError where there are none."""
    entry = CATALOGUE.get(name_or_path) if isinstance(name_or_path, str) else None
    if entry is not None and not entry.bundled and not entry.folder.is_dir():
        return _describe_unfetched(entry)
    folder = resolve(name_or_path)
    summary = entry.summary if entry else ""
    if (folder / CARD_FILE).is_file():
        card = read_card(folder)
        path = folder / WEIGHTS_FILE
        return Description(
            name=str(name_or_path),
            summary=summary,
            layout="safetensors",
            folder=folder,
            variant=card.variant,
            parameters=_parameters(described_networks(card, folder)),
            size=path.stat().st_size if path.is_file() else 0,
            sha256=card.sha256,
            metadata=card.metadata,
        )
    files = published_files(folder)
    networks = blueprint(BASE)
    if files.retargeting is None:
        networks.stitching = networks.eye_retargeting = networks.lip_retargeting = None
    paths = [*files.base.values(), *([files.retargeting] if files.retargeting else [])]
    return Description(
        name=str(name_or_path),
        summary=summary,
        layout="published",
        folder=folder,
        variant=BASE,
        parameters=_parameters(networks),
        size=sum(path.stat().st_size for path in paths),
        sha256="",
        metadata=Metadata(f"checkpoints in the published format in {folder}", "that of their publisher"),
    )


def published_files(folder: Path) -> published.PublishedFiles:
    """The files in the published layout in a folder. Raises UserError where there are none."""
    files = published.locate(folder)
    if files is None:
        raise UserError(
            f"{folder} holds no weights: neither {CARD_FILE} with {WEIGHTS_FILE} "
            f"nor the published files ({', '.join(published.BASE_FILES.values())})"
        )
    return files


def _describe_unfetched(entry: Entry) -> Description:
    return Description(
        name=entry.name,
        summary=entry.summary,
        layout="not fetched",
        folder=entry.folder,
        variant=BASE,
        parameters=_parameters(blueprint(BASE)),
        size=0,
        sha256="",
        metadata=Metadata(f"https://huggingface.co/{PUBLISHED_REPOSITORY}", entry.licence),
    )


def _parameters(networks: Networks) -> dict[str, int]:
    return {name: parameter_count(module) for name, module in networks.modules().items()}
