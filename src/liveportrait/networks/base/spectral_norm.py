"""Spectral normalisation of the generator, in the form of the published checkpoints.

Each main convolution is divided by an estimate of its largest singular value (arXiv 1802.05957). While
training, the estimate follows the weights; at inference it is constant, so it is folded into them.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from liveportrait.networks.base.generator import SpadeBlock


def apply_spectral_norm(generator: nn.Module) -> None:
    """Changes a SpadeGenerator in place for training.

    Its main convolutions then have `weight_orig`, `weight_u` and `weight_v` instead of `weight`.
    """
    for block in generator.modules():
        if isinstance(block, SpadeBlock):
            for name in ("conv_0", "conv_1", "conv_s"):
                if hasattr(block, name):
                    # The newer parametrization has other names and shapes than the published checkpoints.
                    nn.utils.spectral_norm(getattr(block, name))


def fold_spectral_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with `weight` = weight_orig / (u·(W v)) for every spectrally normed layer.

    W is `weight_orig` (out, in, kh, kw) as a matrix (out, in·kh·kw), u (out,) and v (in·kh·kw,) are the
    stored estimates of its first singular vectors. Other entries are kept as they are.
    """
    folded = {}
    for key, value in state.items():
        if key.endswith((".weight_u", ".weight_v")) and f"{key[:-2]}_orig" in state:
            continue
        if key.endswith(".weight_orig"):
            name = key.removesuffix("_orig")
            sigma = state[f"{name}_u"] @ (value.flatten(start_dim=1) @ state[f"{name}_v"])
            folded[name] = value / sigma
        else:
            folded[key] = value
    return folded
