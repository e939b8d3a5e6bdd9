"""The published layout of weights: one `.pth` file for each large network, and one for the three small ones.

    liveportrait/base_models/{appearance_feature_extractor,motion_extractor,warping_module,spade_generator}.pth
    liveportrait/retargeting_models/stitching_retargeting_module.pth
    liveportrait_animals/base_models_v1.1/…the same four…

The animal networks are used with the human stitching file, as in the published program.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from liveportrait.errors import UserError
from liveportrait.media.files import check_input
from liveportrait.networks import BASE, Networks, build
from liveportrait.networks.base import apply_spectral_norm, fold_spectral_norm
from liveportrait.weights.store import blueprint, check_state

BASE_FILES = {
    "appearance": "appearance_feature_extractor.pth",
    "motion": "motion_extractor.pth",
    "warping": "warping_module.pth",
    "generator": "spade_generator.pth",
}
RETARGETING_FILE = "stitching_retargeting_module.pth"
RETARGETING_ENTRIES = {
    "stitching": "retarget_shoulder",
    "eye_retargeting": "retarget_eye",
    "lip_retargeting": "retarget_mouth",
}
# Where the four large files may be below the folder that the user names, most likely first.
BASE_FOLDERS = ("liveportrait/base_models", "base_models_v1.1", "base_models", ".")


@dataclass(frozen=True)
class PublishedFiles:
    """Paths of the files of one set of published weights."""

    base: dict[str, Path]  # by the network's attribute in `Networks`
    retargeting: Path | None  # None if stitching and retargeting are absent


def locate(folder: Path) -> PublishedFiles | None:
    """The published files in a folder, or None if there are none.

    The folder may be the root of the published repository (then the human weights are taken), `liveportrait`,
    `liveportrait_animals`, or the folder with the four large files itself. Raises UserError if only some of these are
    present.
    """
    for place in BASE_FOLDERS:
        found = {name: folder / place / file for name, file in BASE_FILES.items()}
        missing = [path for path in found.values() if not path.is_file()]
        if not missing:
            return PublishedFiles(found, _locate_retargeting(folder / place))
        if len(missing) < len(found):
            raise UserError(f"the published weights in {missing[0].parent} lack {missing[0].name}")
    return None


def read(files: PublishedFiles) -> Networks:
    """The published networks, in float32 on the CPU, spectral norm folded.

    Raises UserError naming the file that cannot be read, or the entries that do not fit the networks.
    """
    networks = build(BASE, retargeting=files.retargeting is not None).modules()
    expected = blueprint(BASE).modules()
    apply_spectral_norm(expected["generator"])

    def fill(name: str, state: dict[str, Any], place: str) -> None:
        check_state(state, expected[name].state_dict(), place)
        networks[name].load_state_dict(fold_spectral_norm(state))

    for name, path in files.base.items():
        fill(name, _read_pth(path), str(path))
    if files.retargeting is not None:
        entries = _read_pth(files.retargeting)
        for name, entry in RETARGETING_ENTRIES.items():
            if not _is_state(entries.get(entry)):
                raise UserError(f"{files.retargeting} has no entry {entry!r} with the weights of {name}")
            # The prefix is left over from distributed training; files without it exist too.
            state = {key.replace("module.", ""): value for key, value in entries[entry].items()}
            fill(name, state, f"{entry} in {files.retargeting}")
    return Networks(BASE, **networks)


def _locate_retargeting(base_folder: Path) -> Path | None:
    """The stitching file that belongs to a folder of large files.

    It is searched next to the folder as the user named it and, if that is a link, next to the link's target.
    """
    for folder in dict.fromkeys((Path(os.path.abspath(base_folder)), base_folder.resolve())):
        family = folder.parent
        places = [family / "retargeting_models", folder]
        if family.name == "liveportrait_animals":
            places.insert(0, family.parent / "liveportrait" / "retargeting_models")
        for place in places:
            if (place / RETARGETING_FILE).is_file():
                return place / RETARGETING_FILE
    return None


def _is_state(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _read_pth(path: Path) -> dict[str, Any]:
    try:
        check_input(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's, about files that it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # for bytes that are not a checkpoint the reader may raise anything
        raise UserError(f"{path} is not a checkpoint, or is truncated: download it again") from error
    if not _is_state(content):
        raise UserError(f"{path} is not a checkpoint: it holds a {type(content).__name__}, not named tensors")
    return content
