"""The weights that have a name, and their places on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from liveportrait.errors import UserError
from liveportrait.folders import user_cache
from liveportrait.weights.published import BASE_FILES, RETARGETING_FILE

CACHE_VARIABLE = "LIVEPORTRAIT_WEIGHTS"
PUBLISHED_REPOSITORY = "KwaiVGI/LivePortrait"  # on Hugging Face


@dataclass(frozen=True)
class Entry:
    """One set of weights that has a name."""

    name: str
    summary: str
    licence: str
    base_folder: str = ""  # of the four large files in the published repository; "" where they come with us
    retargeting_folder: str = "liveportrait/retargeting_models"

    @property
    def bundled(self) -> bool:
        """Comes with the package: there is nothing to fetch."""
        return not self.base_folder

    @property
    def folder(self) -> Path:
        """The folder of the weights, from when they are fetched."""
        return Path(__file__).parent / self.name if self.bundled else cache_folder() / self.name

    @property
    def base_files(self) -> dict[str, str]:
        """The large files' paths in the published repository, by network."""
        return {network: f"{self.base_folder}/{file}" for network, file in BASE_FILES.items()}

    @property
    def retargeting_file(self) -> str:
        """The small networks' path in the published repository."""
        return f"{self.retargeting_folder}/{RETARGETING_FILE}"


PUBLISHED_LICENCE = f"that of the publisher, see https://huggingface.co/{PUBLISHED_REPOSITORY}"
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
    """The directions of the sliders that lie beside the bundled weights; `motion.directions` reads them."""
    return CATALOGUE["compact"].folder / "directions.json"


def cache_folder() -> Path:
    """The folder of fetched weights: $LIVEPORTRAIT_WEIGHTS, or liveportrait/weights in the user's cache."""
    return user_cache(CACHE_VARIABLE, "weights")


def named(name: str) -> Entry:
    """The entry of that name. Raises UserError where there is none."""
    if name not in CATALOGUE:
        raise UserError(f"there are no weights called {name!r}: the names are {', '.join(CATALOGUE)}")
    return CATALOGUE[name]


def resolve(name_or_path: str | Path) -> Path:
    """The folder of the weights with that name or path. Raises UserError where it is missing.

    A name of the catalogue comes first; a folder of the same name is reached as ./NAME.
    """
    entry = CATALOGUE.get(str(name_or_path)) if isinstance(name_or_path, str) else None
    if entry is None:
        folder = Path(name_or_path).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"there are no weights {str(name_or_path)!r}: give a folder that holds some, "
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
