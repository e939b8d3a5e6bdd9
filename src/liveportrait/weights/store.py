"""Our layout of weights: a folder with `model.safetensors` and `model.json`.

The tensors of network `appearance` are called `appearance.…`, and so on. Matrices and kernels are stored in the
requested data type; biases and normalisation statistics stay float32, since they take almost no space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from liveportrait.errors import UserError
from liveportrait.folders import check_new_folder, sha256_of, unfinished_beside
from liveportrait.media.files import check_input
from liveportrait.networks import Networks, Variant, build
from liveportrait.networks.base import fold_spectral_norm
from liveportrait.weights.card import CARD_FILE, Card, Metadata, read_card, write_card

WEIGHTS_FILE = "model.safetensors"
MAX_HEADER = 2**24  # bytes: more than a weights file contains besides its numbers
# Networks that may be absent:
OPTIONAL = ("stitching", "eye_retargeting", "lip_retargeting", "expression", "mouth_painter")


def save(
    networks: Networks,
    folder: Path,
    metadata: Metadata,
    dtype: torch.dtype = torch.float16,
    accompany: Callable[[Path], None] = lambda partial: None,
) -> None:
    """Writes the networks that are present into a new folder, with spectral norm folded.

    The folder appears complete or not at all; before that, `accompany` is called with the temporary folder and may add
    files. Raises UserError if the folder is not empty or cannot be written.
    """
    check_new_folder(folder, may_be_empty=True)
    modules = networks.modules()
    state: dict[str, Tensor] = {}
    for name, module in modules.items():
        for key, value in fold_spectral_norm(module.state_dict()).items():
            state[f"{name}.{key}"] = _stored(value.detach().cpu(), dtype)
    try:
        with unfinished_beside(folder) as partial:
            partial.mkdir()
            path = partial / WEIGHTS_FILE
            save_file(state, path)
            card = Card(networks.variant, tuple(modules), sha256_of(path), metadata)
            write_card(card, partial / CARD_FILE)
            # Safetensors makes its files unreadable for others
            path.chmod((partial / CARD_FILE).stat().st_mode)
            accompany(partial)
            partial.rename(folder)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write weights to {folder}: {error}") from error


def load_folder(folder: Path) -> Networks:
    """The networks written by `save`, in float32 on the CPU.

    Raises UserError naming the file that is missing, damaged or does not fit the networks.
    """
    card = read_card(folder)
    path = folder / WEIGHTS_FILE
    described = described_networks(card, folder)
    try:
        max_size = 4 * sum(map(_value_count, described.modules().values())) + MAX_HEADER
        if path.exists() and check_input(path).stat().st_size > max_size:
            raise UserError(f"{path} is larger than the networks that {CARD_FILE} describes: fetch it again")
        digest = sha256_of(path)
        if digest != card.sha256:
            raise UserError(
                f"{path} is damaged or was changed: its sha256 is {digest[:12]}…, "
                f"{CARD_FILE} says {card.sha256[:12]}…; copy or fetch it again"
            )
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read the weights {path}: {error}") from error

    expected: dict[str, Tensor] = {}
    for name, module in described.modules().items():
        expected |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    check_state(state, expected, str(path))

    with SkipInit():
        networks = _keep_listed(build(card.variant, retargeting=True, expression=True, painter=True), card)
    for name, module in networks.modules().items():
        prefix = f"{name}."
        module.load_state_dict(
            {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        )
    return networks


def described_networks(card: Card, folder: Path) -> Networks:
    """The networks that a card describes, without weights (see `blueprint`)."""
    try:
        return _keep_listed(blueprint(card.variant), card)
    except ValueError as error:
        raise UserError(f"{folder / CARD_FILE} is damaged: {error}") from error


def _keep_listed(networks: Networks, card: Card) -> Networks:
    """Drops the networks that the card does not list. Only the small ones can be absent."""
    present = networks.modules().keys()
    if unknown := [name for name in card.networks if name not in present]:
        raise ValueError(f"there is no network {unknown[0]!r}")
    for name in present - set(card.networks):
        if name not in OPTIONAL:
            raise ValueError(f"the network {name!r} is not listed")
        setattr(networks, name, None)
    return networks


def _stored(value: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in its storage type: float32 if it is a vector or its values are too large for `dtype`."""
    if value.is_floating_point():
        fits = value.ndim > 1 and value.abs().max() <= torch.finfo(dtype).max
        value = value.to(dtype if fits else torch.float32)
    return value.contiguous()


MAX_NAMED = 3  # keys that a message spells out; the others are counted


class SkipInit(TorchFunctionMode):
    """A `with` block in which `nn.init` functions do nothing, for networks whose weights all come from a file.

    This saves the time for random numbers; besides, filling a meta tensor makes PyTorch import its compiler, which
    takes seconds.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Calls every function except those of `nn.init`."""
        named = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return named["tensor"] if "tensor" in named else args[0]
        return func(*args, **named)


def blueprint(variant: Variant) -> Networks:
    """All networks of a variant on the meta device: names and shapes without memory for weights.

    Raises ValueError if no networks can have the variant's sizes.
    """
    try:
        with torch.device("meta"), SkipInit():
            return build(variant, retargeting=True, expression=True, painter=True)
    except (RuntimeError, TypeError, IndexError) as error:
        raise ValueError(f"no networks have the sizes {variant}: {error}") from error


def parameter_count(module: nn.Module) -> int:
    """Number of trainable parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def _value_count(module: nn.Module) -> int:
    """Number of values in a network's state, statistics included."""
    return sum(value.numel() for value in module.state_dict().values())


def check_state(state: Mapping[str, object], expected: Mapping[str, Tensor], place: str) -> None:
    """Raises UserError unless `state` has exactly the names and shapes of `expected`.

    place: the origin of the state for the message, such as a file.
    """
    faults = []
    if missing := [key for key in expected if key not in state]:
        faults.append(f"{len(missing)} missing ({_some(missing)})")
    if unexpected := [key for key in state if key not in expected]:
        faults.append(f"{len(unexpected)} unexpected ({_some(unexpected)})")
    misfits = []
    for key, wanted in expected.items():
        if key in state and (misfit := _misfit(state[key], wanted)):
            misfits.append(f"{key} {misfit}")
    if misfits:
        faults.append(f"{len(misfits)} of the wrong shape ({_some(misfits)})")
    if faults:
        raise UserError(f"{place} does not fit these networks; entries: {', '.join(faults)}")


def _misfit(value: object, wanted: Tensor) -> str:
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__}, should be a tensor"
    if value.shape != wanted.shape:
        return f"is {_shape(value)}, should be {_shape(wanted)}"
    if value.is_floating_point() != wanted.is_floating_point():
        return f"holds {value.dtype}, should hold {wanted.dtype}"
    return ""


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _some(items: Sequence[str]) -> str:
    more = f", and {len(items) - MAX_NAMED} more" if len(items) > MAX_NAMED else ""
    return ", ".join(map(str, items[:MAX_NAMED])) + more
