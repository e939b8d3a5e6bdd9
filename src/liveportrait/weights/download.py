"""Resumable downloads from the Hugging Face Hub.

`hf_hub_download` of huggingface_hub 2.4 restarts an interrupted file; its `http_get` can resume it.
"""

from __future__ import annotations

import glob
import re
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers

from liveportrait.errors import UserError
from liveportrait.folders import sha256_of


def download(
    repository: str, file: str, folder: Path, endpoint: str, revision: str | None = None
) -> tuple[Path, str]:
    """Downloads a repository's file to FOLDER/COMMIT/FILE; returns that path and the commit, by default the newest.

    A complete file is not requested again, and of an interrupted one only the rest. Raises the hub's errors on failure,
    which keeps what has arrived, and UserError for a file whose SHA-256 differs from the one the hub gives.
    """
    url = hf_hub_url(repository, file, revision=revision, endpoint=endpoint)
    metadata = get_hf_file_metadata(url, endpoint=endpoint)
    if (
        metadata.commit_hash is None
        or metadata.etag is None
        or not re.fullmatch("[0-9a-zA-Z-]+", metadata.etag)
    ):
        raise OSError(f"{urlsplit(url).netloc} does not answer as a hub does")
    path = folder / metadata.commit_hash / file
    if path.is_file():
        return path, metadata.commit_hash
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{metadata.etag}.part")
    for stale in set(folder.glob(f"*/{glob.escape(file)}.*.part")) - {part}:
        stale.unlink(missing_ok=True)  # interrupted before the repository changed: it will not be resumed
    # A token must not be sent to other servers
    is_hub = urlsplit(metadata.location).netloc == urlsplit(url).netloc
    with part.open("ab") as arrived:
        http_get(
            metadata.location,
            arrived,
            resume_size=arrived.tell(),
            headers=build_hf_headers() if is_hub else None,
            expected_size=metadata.size,
            displayed_filename=file,
        )
    # For large files the hub gives the SHA-256, for others its own hash.
    if re.fullmatch("[0-9a-f]{64}", metadata.etag) and sha256_of(part) != metadata.etag:
        part.unlink()
        raise UserError(
            f"{path.name} arrived damaged: its sha256 is not {metadata.etag[:12]}…; fetch it again"
        )
    part.replace(path)
    return path, metadata.commit_hash
