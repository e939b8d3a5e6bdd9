"""A cache of compiled artefacts on disk. An artefact is reused only if everything that it depends on is unchanged."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from liveportrait.errors import UserError
from liveportrait.folders import unfinished_beside, user_cache
from liveportrait.networks import Networks

CACHE_VARIABLE = "LIVEPORTRAIT_CACHE"
DIGEST_BYTES = 32


def cache_folder() -> Path:
    """The folder of compiled artefacts: $LIVEPORTRAIT_CACHE, or liveportrait/compiled in the user's cache."""
    return user_cache(CACHE_VARIABLE, "compiled")


def artefact_key(networks: Networks, *settings: object) -> str:
    """A key for artefacts compiled from these networks: 32 hexadecimal digits.

    It depends on the weights and sizes, the code of the networks, the versions of this program and of PyTorch, the
    machine, and `settings`: runtime and its version, device, precision, threads, shapes.
    """
    digest = hashlib.sha256()
    facts = (networks.variant, version("liveportrait"), torch.__version__, _machine(), settings)
    digest.update(repr(facts).encode())
    digest.update(_code().encode())
    for name, module in networks.modules().items():
        for key, value in module.state_dict().items():
            digest.update(f"{name}.{key} {value.dtype} {tuple(value.shape)}".encode())
            data = value.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(data.numpy().data)
    return digest.hexdigest()[:32]


def load_or_make(name: str, make: Callable[[], bytes]) -> tuple[bytes, bool]:
    """The artefact with that file name, made and stored if it is missing or damaged; and whether it was made.

    If the folder cannot be written, the artefact is made but not stored.
    """
    path = cache_folder() / name
    try:
        stored = path.read_bytes()
    except OSError:
        stored = b""
    if _digest(stored[DIGEST_BYTES:]) == stored[:DIGEST_BYTES]:
        return stored[DIGEST_BYTES:], False
    return replace_artefact(name, make()), True


def replace_artefact(name: str, artefact: bytes) -> bytes:
    """Stores the artefact under that file name, and returns it."""
    path = cache_folder() / name
    with suppress(OSError, UserError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished_beside(path) as partial:
            partial.write_bytes(_digest(artefact) + artefact)
            partial.replace(path)
    return artefact


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@cache
def _code() -> str:
    """Digest of the sources of networks/ and engine/: with other code the same weights give another graph."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(path for folder in ("networks", "engine") for path in (root / folder).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _machine() -> tuple[str, ...]:
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        wanted = ("model name", "flags", "Features")
        first = {line.split(":")[0].strip(): line for line in reversed(lines) if line.startswith(wanted)}
        processor = repr(sorted(first.values()))
    return (platform.system(), platform.machine(), processor)
