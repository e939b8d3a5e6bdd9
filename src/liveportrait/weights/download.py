"""Files of the Hugging Face Hub, which go on where they were broken off.

`hf_hub_download` of huggingface_hub 2.4 begins a file that was broken off anew; its `http_get` can go on.
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
    """A file of a repository, as FOLDER/COMMIT/FILE, and its commit: the newest unless a revision is given.

    A whole file is not asked for again; of one that was broken off, only the rest is. Raises the hub's errors where it
    fails, which keeps what has arrived, and UserError for a file that has not the SHA-256 that the hub names.
    """
    url = hf_hub_url(repository, file, revision=revision, endpoint=endpoint)
    told = get_hf_file_metadata(url, endpoint=endpoint)
    if told.commit_hash is None or told.etag is None or not re.fullmatch("[0-9a-zA-Z-]+", told.etag):
        raise OSError(f"{urlsplit(url).netloc} does not answer as a hub does")
    path = folder / told.commit_hash / file
    if path.is_file():
        return path, told.commit_hash
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{told.etag}.part")
    for stale in set(folder.glob(f"*/{glob.escape(file)}.*.part")) - {part}:
        stale.unlink(missing_ok=True)  # broken off before the repository changed: nobody asks for the rest
    own = urlsplit(told.location).netloc == urlsplit(url).netloc  # a token is not for other servers
    with part.open("ab") as arrived:
        http_get(
            told.location,
            arrived,
            resume_size=arrived.tell(),
            headers=build_hf_headers() if own else None,
            expected_size=told.size,
            displayed_filename=file,
        )
    # Of large files the hub names the SHA-256, of others a hash of its own.
    if re.fullmatch("[0-9a-f]{64}", told.etag) and sha256_of(part) != told.etag:
        part.unlink()
        raise UserError(f"{path.name} arrived damaged: its sha256 is not {told.etag[:12]}…; fetch it again")
    part.replace(path)
    return path, told.commit_hash
