"""F, W and G of the published architecture with fewer operations and the same numbers up to rounding.

F and W:

- The compressed volume depends only on the source: F makes it, once, and W finds it among the features.
- The 22 sparse motions are translations. A translated regular grid is still regular, so sampling it is a linear
  interpolation along each axis, a product with a matrix: 22 samplings of a volume become three batched products.
- A Gaussian heatmap is the product of three one-dimensional ones.
- A flow that mixes "where I am + shift k" with weights of sum 1 is "where I am" + the mixture of the shifts.
- The decoder's convolutions see maps of repeated pixels (`after_upsampling`), the last ones have few outputs.

G: what the SPADE blocks derive from the conditioning map is computed at the map's own 64x64 resolution.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from liveportrait.engine.rewrites.convolutions import PixelTaps, SliceTaps, after_upsampling, stacked
from liveportrait.networks.base.appearance import AppearanceFeatureExtractor
from liveportrait.networks.base.generator import SLOPE, Spade, SpadeBlock, SpadeGenerator
from liveportrait.networks.base.layers import Decoder
from liveportrait.networks.base.warping import (
    HEATMAP_VARIANCE,
    DenseMotionNetwork,
    WarpingModule,
    coordinate_grid,
)
from liveportrait.networks.geometry import sample_volume
from liveportrait.networks.interface import Features, Pose, Warped


class FastAppearance(nn.Module):
    """F, and the first layer of W, which depends only on the source."""

    def __init__(self, appearance: AppearanceFeatureExtractor, warping: WarpingModule) -> None:
        super().__init__()
        self.appearance = appearance
        self.compress = warping.dense_motion_network.compress  # its batch norm has been folded

    def forward(self, image: Tensor) -> Features:
        """Volume (B,32,16,64,64) and compressed (B,4,16,64,64) of pictures (B,3,256,256), RGB in [0, 1]."""
        volume = self.appearance(image)["volume"]
        return {"volume": volume, "compressed": F.relu(self.compress(volume))}


class FastDecoder(nn.Module):
    """The hourglass's decoder, without ever holding an enlarged map of the level below."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.up_blocks = nn.ModuleList(after_upsampling(block.conv, 2) for block in decoder.up_blocks)  # type: ignore[arg-type]
        self.conv = decoder.conv

    def forward(self, levels: list[Tensor]) -> Tensor:
        out = levels[-1]
        for block, skip in zip(self.up_blocks, reversed(levels[:-1]), strict=True):
            out = torch.cat([F.relu(block(out)), skip], dim=1)
        return F.relu(self.conv(out))


class FastDenseMotion(nn.Module):
    """The flow and the occlusion map of `DenseMotionNetwork`, from the compressed volume."""

    def __init__(self, network: DenseMotionNetwork) -> None:
        super().__init__()
        self.encoder, self.decoder = network.hourglass.encoder, FastDecoder(network.hourglass.decoder)
        self.mask, self.occlusion = SliceTaps(network.mask), PixelTaps(network.occlusion)

    def forward(self, compressed: Tensor, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor]:
        """Flow (B,D,H,W,3), float32, and occlusion map (B,1,H,W) in [0, 1].

        compressed (B,4,D,H,W); source and driving keypoints (B,21,3).
        """
        with torch.autocast(compressed.device.type, enabled=False):
            source, driving = source.float(), driving.float()
            shifts, seen = motion_features(compressed.float(), source, driving)
        out = self.decoder(self.encoder(seen.to(compressed.dtype)))  # (B, 142, D, H, W)
        logits = self.mask(out)
        with torch.autocast(compressed.device.type, enabled=False):
            weights = logits.float().softmax(dim=1).flatten(2)  # (B, 22, D·H·W)
            size = compressed.shape[2:]
            shift = (weights.transpose(1, 2) @ shifts).unflatten(1, size)
            flow = coordinate_grid(size[0], size[1], size[2], compressed.device) + shift
        return flow, self.occlusion(out.flatten(1, 2)).sigmoid()


class FastWarping(nn.Module):
    """Equivalent to `WarpingModule`, for features from `FastAppearance`."""

    def __init__(self, warping: WarpingModule) -> None:
        super().__init__()
        self.dense_motion = FastDenseMotion(warping.dense_motion_network)
        self.third, self.fourth = warping.third, warping.fourth

    def forward(self, features: Features, source: Pose, driving: Pose) -> Warped:
        """The warped map (B,256,64,64) of the source's features. Uses only the poses' keypoints."""
        volume = features["volume"]
        flow, occlusion = self.dense_motion(features["compressed"], source.keypoints, driving.keypoints)
        warped = sample_volume(volume.float(), flow, "zeros").to(volume.dtype)
        return {"feature": self.fourth(self.third(warped.flatten(1, 2))) * occlusion}


def motion_features(compressed: Tensor, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor]:
    """Shifts (B,22,3) of the sparse motions, and the hourglass's input for them, (B,110,D,H,W).

    compressed (B,4,D,H,W); source and driving keypoints (B,21,3); all float32.
    """
    shifts = F.pad(source - driving, (0, 0, 1, 0))  # the background's is zero
    size = compressed.shape[2:]
    heatmaps = _heatmaps(driving, size) - _heatmaps(source, size)
    heatmaps = F.pad(heatmaps, (0, 0, 0, 0, 0, 0, 1, 0))  # (B, 22, D, H, W)
    moved = _translated(compressed, shifts)  # (B, 22, 4, D, H, W)
    return shifts, torch.cat([heatmaps[:, :, None], moved], dim=2).flatten(1, 2)


def _axes(size: torch.Size, device: torch.device) -> list[Tensor]:
    """Coordinates of the cells along x (W,), y (H,) and z (D,), from -1 to 1, for a size (D,H,W)."""
    return [torch.linspace(-1.0, 1.0, cells, device=device) for cells in reversed(size)]


def _heatmaps(keypoints: Tensor, size: torch.Size) -> Tensor:
    """Gaussians (B,K,D,H,W) around keypoints (B,K,3)."""
    x, y, z = (
        torch.exp(-0.5 * (axis - keypoints[..., index, None]).square() / HEATMAP_VARIANCE)
        for index, axis in enumerate(_axes(size, keypoints.device))
    )
    return z[..., :, None, None] * (y[..., :, None] * x[..., None, :])[:, :, None]


def _translated(volume: Tensor, shifts: Tensor) -> Tensor:
    """The volume (B,C,D,H,W) sampled at every cell's place plus shift k (B,K,3): (B,K,C,D,H,W); zero outside.

    As in `sample_volume`, the outermost cells lie on the border of [-1, 1], and ±1 is looked up half a cell outside.
    """
    x, y, z = (
        _interpolation(axis + shifts[..., index, None])
        for index, axis in enumerate(_axes(volume.shape[2:], volume.device))
    )
    channels, depth, height, width = volume.shape[1:]
    out = volume.reshape(len(volume), 1, -1, width) @ x.transpose(-1, -2)  # (B, K, C·D·H, W)
    out = y[:, :, None] @ out.unflatten(2, (channels * depth, height))  # (B, K, C·D, H, W)
    out = z[:, :, None] @ out.flatten(3).unflatten(2, (channels, depth))  # (B, K, C, D, H·W)
    return out.unflatten(-1, (height, width))


def _interpolation(places: Tensor) -> Tensor:
    """Matrices (...,N,N) that take values at N cells to linearly interpolated ones at places (...,N) in [-1, 1]."""
    cells = places.shape[-1]
    place = ((places + 1) * cells - 1) / 2
    return F.relu(1 - (place[..., None] - torch.arange(cells, device=places.device)).abs())


class FastSpadeBlock(nn.Module):
    """A SPADE block for one size of x; with `doubles`, for x at half that size.

    The hidden layers of its normalisations are one convolution, and so are scale and shift of each. An enlarged x has
    the same statistics as x, so x is normalised before it is enlarged. The learned shortcut is linear, so the shift of
    its normalisation is passed through it beforehand, in the weights.
    """

    def __init__(self, block: SpadeBlock, factor: int, doubles: bool) -> None:
        """`factor`, a power of 2, is how many times larger the block's maps are than the conditioning map."""
        super().__init__()
        self.factor, self.doubles = factor, doubles
        self.learned_shortcut = block.learned_shortcut
        spades = [block.norm_0, block.norm_1, *([block.norm_s] if block.learned_shortcut else [])]
        self.shared = stacked([spade.mlp_shared[0] for spade in spades])  # type: ignore[misc]
        if factor > 1:
            # Of four repeated pixels the inner two have equal results: three are computed.
            self.shared = after_upsampling(self.shared, 3 if factor == 4 else factor)  # type: ignore[assignment]
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
    """G's blocks in order, with how many times larger its map is than the conditioning, and whether it doubles it."""
    names = [f"G_middle_{index}" for index in range(generator.middle_blocks)]
    names += [f"up_{index}" for index in range(generator.up_blocks)]
    for index, name in enumerate(names):
        doublings = max(0, index - generator.middle_blocks + 1)
        block: SpadeBlock = getattr(generator, name)
        yield block, 2**doublings, doublings > 0


class FastGenerator(nn.Module):
    """Equivalent to `SpadeGenerator`, whose spectral norm has been folded."""

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
    """Instance normalisation as a group norm, which stays channels-last, unlike instance_norm.

    The group norm subtracts the squared mean from the mean square, so the mean must be small beforehand.
    """
    return F.group_norm(x - x.mean(dim=(2, 3), keepdim=True), x.shape[1])


@torch.no_grad()
def modulation(spade: Spade, through: nn.Conv2d | None = None) -> nn.Conv2d:
    """A convolution from a hidden layer to 1 + γ and β, concatenated; β is passed through the 1x1 conv `through`."""
    both = stacked([spade.mlp_gamma, spade.mlp_beta])
    channels = spade.mlp_gamma.out_channels
    _, bias = both.parameters()
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
