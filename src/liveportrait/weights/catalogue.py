"""Named weights: which exist, where they are stored on this machine, and what a folder of weights contains."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub.errors import (  # covers whichever HTTP library the hub uses
    HTTPError,
    RepositoryNotFoundError,
)

from liveportrait.errors import UserError
from liveportrait.folders import check_new_folder, user_cache
from liveportrait.networks import BASE, Networks, Variant
from liveportrait.weights import published
from liveportrait.weights.card import CARD_FILE, Metadata, read_card
from liveportrait.weights.download import download
from liveportrait.weights.published import BASE_FILES, RETARGETING_FILE
from liveportrait.weights.store import (
    WEIGHTS_FILE,
    blueprint,
    described_networks,
    parameter_count,
    save,
)

CACHE_VARIABLE = "LIVEPORTRAIT_WEIGHTS"
HUB = "https://huggingface.co"
# The owner's current name, and the one in the published program's documentation.
PUBLISHED_REPOSITORIES = ("KlingTeam/LivePortrait", "KwaiVGI/LivePortrait")


@dataclass(frozen=True)
class Entry:
    """One named set of weights."""

    name: str
    summary: str
    licence: str
    base_folder: str = ""  # of the four large files in the published repository; "" if bundled
    retargeting_folder: str = "liveportrait/retargeting_models"

    @property
    def bundled(self) -> bool:
        """Whether they come with the package, so that there is nothing to fetch."""
        return not self.base_folder

    @property
    def folder(self) -> Path:
        """The folder of the weights; it exists once they are fetched."""
        return Path(__file__).parent / self.name if self.bundled else cache_folder() / self.name

    @property
    def base_files(self) -> dict[str, str]:
        """The large files' paths in the published repository, by network."""
        return {network: f"{self.base_folder}/{file}" for network, file in BASE_FILES.items()}

    @property
    def retargeting_file(self) -> str:
        """The small networks' path in the published repository."""
        return f"{self.retargeting_folder}/{RETARGETING_FILE}"


PUBLISHED_LICENCE = f"that of the publisher, see {HUB}/{PUBLISHED_REPOSITORIES[0]}"
ENTRIES = (
    Entry("compact", "small and fast, 256 px, comes with the program", "research use only"),
    Entry(
        "base-human",
        "the published weights for people, 512 px",
        PUBLISHED_LICENCE,
        base_folder="liveportrait/base_models",
    ),
    Entry(
        "base-animal",
        "the published weights for cats, dogs and pandas (version 1.1), 512 px",
        PUBLISHED_LICENCE,
        base_folder="liveportrait_animals/base_models_v1.1",
    ),
)
CATALOGUE = {entry.name: entry for entry in ENTRIES}


def directions_file() -> Path:
    """The file of slider directions next to the bundled weights; `motion.directions` reads it."""
    return CATALOGUE["compact"].folder / "directions.json"


def cache_folder() -> Path:
    """The folder of fetched weights: $LIVEPORTRAIT_WEIGHTS, or liveportrait/weights in the user's cache."""
    return user_cache(CACHE_VARIABLE, "weights")


def named(name: str) -> Entry:
    """The entry with that name. Raises UserError if there is none."""
    if name not in CATALOGUE:
        raise UserError(f"there are no weights called {name!r}: the names are {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def resolve(name_or_path: str | Path) -> Path:
    """The folder of the weights with that name or path. Raises UserError if it is missing.

    Names in the catalogue take precedence; a folder of the same name can be given as ./NAME.
    """
    entry = CATALOGUE.get(str(name_or_path)) if isinstance(name_or_path, str) else None
    if entry is None:
        folder = Path(name_or_path).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"there are no weights {str(name_or_path)!r}: give a folder that contains weights, "
                f"or one of the names {', '.join(CATALOGUE)}"
            )
        return folder
    if entry.folder.is_dir():
        return entry.folder
    if entry.bundled:
        raise UserError(f"the bundled weights are missing from {entry.folder}: install the program again")
    raise UserError(
        f"the weights {entry.name!r} are not on this machine: run `liveportrait weights fetch {entry.name}`"
    )


@dataclass(frozen=True)
class Description:
    """A summary of one set of weights for the user."""

    name: str  # in the catalogue, or the path as given
    summary: str  # "" for a path
    layout: Literal["safetensors", "published", "not fetched"]
    folder: Path  # where it is, or will be once fetched
    variant: Variant
    parameters: dict[str, int]  # trainable parameters by network; absent networks are not listed
    size: int  # on disk, bytes; 0 if not fetched
    sha256: str  # of model.safetensors; "" if there is none
    metadata: Metadata

    @property
    def missing(self) -> tuple[str, ...]:
        """The names, for the user, of networks that are missing from published weights."""
        names = ("stitching", "eye_retargeting", "lip_retargeting")
        return tuple(name.replace("_", " ") for name in names if name not in self.parameters)


def describe(name_or_path: str | Path) -> Description:
    """The description of the weights with that name or path. Raises UserError if there are none."""
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


def identity(name_or_path: str | Path) -> tuple[str, str]:
    """The name of weights, and the SHA-256 of model.safetensors, "" for the published layout.

    Weights given by path are named after their folder. Raises UserError if they are missing.
    """
    folder = resolve(name_or_path)
    known = isinstance(name_or_path, str) and name_or_path in CATALOGUE
    sha256 = read_card(folder).sha256 if (folder / CARD_FILE).is_file() else ""
    return str(name_or_path) if known else folder.resolve().name, sha256


def published_files(folder: Path) -> published.PublishedFiles:
    """The files of the published layout in a folder. Raises UserError if there are none."""
    files = published.locate(folder)
    if files is None:
        raise UserError(
            f"{folder} contains no weights: neither {CARD_FILE} with {WEIGHTS_FILE} "
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
        metadata=Metadata(f"{HUB}/{PUBLISHED_REPOSITORIES[0]}", entry.licence),
    )


def _parameters(networks: Networks) -> dict[str, int]:
    return {name: parameter_count(module) for name, module in networks.modules().items()}


def fetch(name: str, folder: Path | None = None, source: Path | None = None, endpoint: str = HUB) -> Path:
    """Downloads the weights with that name, converts them to our layout and returns their folder.

    folder: where to put them; by default `cache_folder() / name`, where `load(name)` looks. source: a folder that
    already has the published files, in the published layout; then nothing is downloaded. endpoint: the address of the
    Hugging Face Hub or a mirror. Existing weights are left alone. An interrupted download is resumed; until it is done
    it needs about twice its size on disk. Raises UserError if the download fails, or a file's SHA-256 differs from the
    one the Hub gives.
    """
    entry = named(name)
    target = folder if folder is not None and not entry.bundled else entry.folder
    if entry.bundled or (target / CARD_FILE).is_file():
        return target
    files, origin = (None, "") if source is None else _copied(entry, source)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create the folder {target.parent}: {error}") from error
    check_new_folder(target, may_be_empty=True)
    arriving = target.with_name(f".{target.name}.download")
    if files is None:
        files, origin = _download(entry, arriving, endpoint.rstrip("/"))
    save(published.read(files), target, Metadata(origin, entry.licence), dtype=torch.float32)
    shutil.rmtree(arriving, ignore_errors=True)
    return target


def _copied(entry: Entry, source: Path) -> tuple[published.PublishedFiles, str]:
    """The files of an entry in a folder that was copied from elsewhere, and a note on their origin."""
    root = source.expanduser()
    base = {network: root / file for network, file in entry.base_files.items()}
    retargeting = root / entry.retargeting_file
    if missing := [path for path in (*base.values(), retargeting) if not path.is_file()]:
        raise UserError(
            f"there is no {missing[0]}: copy the published files of {entry.name!r} into {source}, "
            "keeping their subfolders"
        )
    return published.PublishedFiles(base, retargeting), f"the published files, copied from {source}"


def _download(entry: Entry, folder: Path, endpoint: str) -> tuple[published.PublishedFiles, str]:
    """The published files of an entry, all from one commit, and where they come from."""
    for repository in PUBLISHED_REPOSITORIES:
        try:
            return _download_from(repository, entry, folder, endpoint)
        except RepositoryNotFoundError as error:
            failure: Exception = error
        except (HTTPError, OSError) as error:
            failure = error
            break
    reason = str(failure).strip().split("\n")[0].split(". ")[0] or type(failure).__name__
    raise UserError(
        f"could not fetch {entry.name!r} from {endpoint}/{repository} ({reason}): check the connection and run "
        f"`liveportrait weights fetch {entry.name}` again (--endpoint: a mirror, --folder: files copied from elsewhere)"
    ) from failure


def _download_from(
    repository: str, entry: Entry, folder: Path, endpoint: str
) -> tuple[published.PublishedFiles, str]:
    # The smallest file comes first and fixes the commit, so that an upload in between cannot mix two versions.
    first, commit = download(repository, entry.retargeting_file, folder, endpoint)
    base = {
        network: download(repository, file, folder, endpoint, commit)[0]
        for network, file in entry.base_files.items()
    }
    return published.PublishedFiles(base, first), f"{endpoint}/{repository}, commit {commit}"
