"""G of the published architecture with fewer operations and the same numbers up to rounding.

What the SPADE blocks read from the conditioning map is computed at its own 64x64 resolution: see `upsampling`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.engine.rewrites.upsampling import after_enlarging, joined
from liveportrait.networks.base.generator import SLOPE, Spade, SpadeBlock, SpadeGenerator
from liveportrait.networks.interface import Warped


class FastSpadeBlock(nn.Module):
    """A SPADE block for one size of x; with `doubles`, on x at half that size.

    The hidden layers of its normalisations are one convolution, and so are scale and shift of each. An enlarged x
    has the statistics of x, which is normalised before it is enlarged. The learned shortcut is linear, so that the
    shift of its normalisation goes through it beforehand, in the weights.
    """

    def __init__(self, block: SpadeBlock, factor: int, doubles: bool) -> None:
        """`factor`: how many times larger than the conditioning map the block's pictures are: a power of 2."""
        super().__init__()
        self.factor, self.doubles = factor, doubles
        self.learned_shortcut = block.learned_shortcut
        spades = [block.norm_0, block.norm_1, *([block.norm_s] if block.learned_shortcut else [])]
        self.shared = joined([spade.mlp_shared[0] for spade in spades])  # type: ignore[misc]
        if factor > 1:
            # Of four repeated pixels the inner two see the same: three are computed.
            self.shared = after_enlarging(self.shared, 3 if factor == 4 else factor)  # type: ignore[assignment]
        self.modulation_0, self.modulation_1 = modulation(block.norm_0), modulation(block.norm_1)
        self.conv_0, self.conv_1 = block.conv_0, block.conv_1
        if block.learned_shortcut:
            self.modulation_s = modulation(block.norm_s, through=block.conv_s)
            self.conv_s = block.conv_s

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        hidden = self._hidden(condition)
        normal = normalised(x)
        if self.doubles:
            normal = F.interpolate(normal, scale_factor=2, mode="nearest")
        gain, shift = self.modulation_0(hidden[0]).chunk(2, dim=1)
        out = self.conv_0(F.leaky_relu(torch.addcmul(shift, normal, gain), SLOPE))
        gain, shift = self.modulation_1(hidden[1]).chunk(2, dim=1)
        out = self.conv_1(F.leaky_relu(torch.addcmul(shift, normalised(out), gain), SLOPE))
        if not self.learned_shortcut:
            return out + (F.interpolate(x, scale_factor=2, mode="nearest") if self.doubles else x)
        modulation = self.modulation_s(hidden[2])
        gain, shift = modulation.split([normal.shape[1], out.shape[1]], dim=1)
        return out + (self.conv_s(normal * gain) + shift)

    def _hidden(self, condition: Tensor) -> tuple[Tensor, ...]:
        """The hidden layers of the block's normalisations, at its size."""
        shared = F.relu(self.shared(condition))
        if self.factor == 4:
            # From three pixels to four, "nearest-exact" repeats the middle one ("nearest" would the first).
            size = [side * 4 for side in condition.shape[-2:]]
            shared = F.interpolate(shared, size=size, mode="nearest-exact")
        return shared.chunk(3 if self.learned_shortcut else 2, dim=1)


def blocks_of(generator: SpadeGenerator) -> Iterator[tuple[SpadeBlock, int, bool]]:
    """G's blocks in order, how many times larger than its conditioning each one's map is, and whether it doubles it."""
    names = [f"G_middle_{index}" for index in range(generator.middle_blocks)]
    names += [f"up_{index}" for index in range(generator.up_blocks)]
    for index, name in enumerate(names):
        doublings = max(0, index - generator.middle_blocks + 1)
        block = generator.get_submodule(name)
        assert isinstance(block, SpadeBlock)
        yield block, 2**doublings, doublings > 0


class FastGenerator(nn.Module):
    """Takes and gives what `SpadeGenerator` does. Its spectral norm has been folded."""

    def __init__(self, generator: SpadeGenerator) -> None:
        super().__init__()
        self.fc, self.conv_img = generator.fc, generator.conv_img
        self.blocks = nn.ModuleList(FastSpadeBlock(*each) for each in blocks_of(generator))

    def forward(self, warped: Warped) -> Tensor:
        """Pictures (B,3,512,512), RGB in [0, 1], of the warped feature map (B,256,64,64)."""
        condition = warped["feature"].contiguous(memory_format=torch.channels_last)
        out = self.fc(condition)  # (B, 512, 64, 64)
        for block in self.blocks:
            out = block(out, condition)  # (B, 64, 256, 256) in the end
        return self.conv_img(F.leaky_relu(out, SLOPE)).sigmoid()


def normalised(x: Tensor) -> Tensor:
    """Instance normalisation; as a group norm it stays channels-last, which instance_norm does not.

    That group norm subtracts the squared mean from the mean square, so that the mean must be small beforehand.
    """
    return F.group_norm(x - x.mean(dim=(2, 3), keepdim=True), x.shape[1])


@torch.no_grad()
def modulation(spade: Spade, through: nn.Conv2d | None = None) -> nn.Conv2d:
    """From a hidden layer to 1 + γ and β, one after the other; β as it leaves the 1x1 convolution `through`."""
    both = joined([spade.mlp_gamma, spade.mlp_beta])
    channels = spade.mlp_gamma.out_channels
    bias = both.bias
    assert bias is not None
    bias[:channels] += 1
    if through is None:
        return both
    matrix = through.weight[:, :, 0, 0].double()
    shift = torch.einsum("oc,cikl->oikl", matrix, both.weight[channels:].double())
    weight = torch.cat([both.weight[:channels], shift.to(both.weight.dtype)])
    constant = (matrix @ bias[channels:].double()).to(bias.dtype)
    both.out_channels = len(weight)
    both.weight = nn.Parameter(weight, requires_grad=False)
    both.bias = nn.Parameter(torch.cat([bias[:channels], constant]), requires_grad=False)
    return both
