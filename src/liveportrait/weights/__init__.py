"""The networks' weights: by name (bundled, or fetched on demand) or by path, in either layout.

`load` never uses the network; `fetch` is the only function that does.
"""

from __future__ import annotations

from pathlib import Path

import torch

from liveportrait.errors import UserError
from liveportrait.folders import check_new_folder
from liveportrait.networks import Networks
from liveportrait.weights import published
from liveportrait.weights.card import CARD_FILE, Metadata
from liveportrait.weights.catalogue import (
    CATALOGUE,
    Description,
    cache_folder,
    describe,
    directions_file,
    fetch,
    identity,
    published_files,
    resolve,
)
from liveportrait.weights.published import RETARGETING_FILE
from liveportrait.weights.store import load_folder, save

__all__ = [
    "RETARGETING_FILE",
    "Description",
    "Metadata",
    "cache_folder",
    "catalogue",
    "convert",
    "describe",
    "directions_file",
    "fetch",
    "identity",
    "load",
    "save",
]


def load(name_or_path: str | Path, device: str | torch.device = "cpu") -> Networks:
    """The networks with these weights, in float32, in evaluation mode, without gradients.

    name_or_path: a name in the catalogue (`compact`, `base-human`, `base-animal`), or a folder in our layout or the
    published one. Raises UserError if the weights are missing, damaged or do not fit the networks, or the device is not
    available.
    """
    check_device(device)
    folder = resolve(name_or_path)
    ours = (folder / CARD_FILE).is_file()
    networks = load_folder(folder) if ours else published.read(published_files(folder))
    for module in networks.modules().values():
        module.eval().requires_grad_(False).to(device)
    return networks


def catalogue() -> list[Description]:
    """All named weights, fetched or not."""
    return [describe(name) for name in CATALOGUE]


def convert(source: str | Path, destination: str | Path) -> Description:
    """Converts weights from the published layout to ours, with spectral norm folded, in float32 (lossless).

    source: a folder in the published layout. destination: a new or empty folder. Raises UserError if the source is
    damaged or the destination is not empty.
    """
    target = Path(destination).expanduser()
    check_new_folder(target, may_be_empty=True)
    folder = resolve(Path(source))
    described = describe(folder)
    if described.layout != "published":
        raise UserError(f"{folder} needs no conversion: it has {CARD_FILE} already")
    save(published.read(published_files(folder)), target, described.metadata, dtype=torch.float32)
    return describe(target)


def check_device(name: str | torch.device) -> None:
    """Raise `UserError` for a device that is not available, with a shorter message than PyTorch's."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"there is no device {str(name)!r}: choose one of auto, cpu, cuda, cuda:1 or mps")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(
            "the device 'mps' needs an Apple processor and is not available here: use --device cpu"
        )
    if device.type != "cuda":
        return
    count = torch.cuda.device_count()
    if count == 0:
        reason = "no GPU was found" if torch.version.cuda else "this PyTorch was installed without CUDA"
        raise UserError(f"the device {str(name)!r} is not available here, since {reason}: use --device cpu")
    if device.index is not None and device.index >= count:
        available = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise UserError(f"there is no device {str(name)!r} here: choose {available} or cpu")
