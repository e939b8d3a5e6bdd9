"""Downloads the published weights. Nothing else in the program uses the network, and only when asked to."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HTTPError  # of whichever HTTP library it uses

from liveportrait.errors import UserError
from liveportrait.folders import check_new_folder
from liveportrait.weights import published
from liveportrait.weights.card import CARD_FILE, Metadata
from liveportrait.weights.catalogue import PUBLISHED_REPOSITORY, Entry, named
from liveportrait.weights.store import save


def fetch(name: str, folder: Path | None = None) -> Path:
    """Downloads the weights of that name, converts them to our layout and returns their folder.

    folder: where to put them; by default `cache_folder() / name`, where `load(name)` looks. Weights that are
    there already are left alone. An interrupted download is resumed by the next call; about twice the
    download's size is needed until it ends. Raises UserError where the download fails.
    """
    entry = named(name)
    target = folder if folder is not None and not entry.bundled else entry.folder
    if entry.bundled or (target / CARD_FILE).is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {target.parent}: {error}") from error
    check_new_folder(target, may_be_empty=True)
    download = target.with_name(f".{target.name}.download")
    files, commit = _download(entry, download)
    metadata = Metadata(f"https://huggingface.co/{PUBLISHED_REPOSITORY}, commit {commit}", entry.licence)
    save(published.read(files), target, metadata, dtype=torch.float32)
    shutil.rmtree(download, ignore_errors=True)
    return target


def _download(entry: Entry, cache: Path) -> tuple[published.PublishedFiles, str]:
    """The published files of an entry, all of one commit, and that commit."""
    try:
        # The hub's cache keeps a file as snapshots/COMMIT/PATH. The smallest file comes first and tells
        # the commit, so that an upload in between cannot mix two versions.
        first = Path(hf_hub_download(PUBLISHED_REPOSITORY, entry.retargeting_file, cache_dir=cache))
        commit = first.parents[entry.retargeting_file.count("/")].name
        base = {
            network: Path(hf_hub_download(PUBLISHED_REPOSITORY, file, cache_dir=cache, revision=commit))
            for network, file in entry.base_files.items()
        }
    except (HTTPError, OSError) as error:
        reason = str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__
        raise UserError(
            f"could not fetch {entry.name!r} from https://huggingface.co/{PUBLISHED_REPOSITORY} ({reason}): "
            f"check the connection and run `liveportrait weights fetch {entry.name}` again"
        ) from error
    return published.PublishedFiles(base, first), commit
