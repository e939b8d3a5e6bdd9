"""The Winograd back end: convolutions as matrix products give the same numbers."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_base import randomise, small_networks
from torch import Tensor, nn

from liveportrait.choices import PrecisionChoice
from liveportrait.engine import EagerBackend, Engine, make_backend
from liveportrait.engine import backend as backends
from liveportrait.engine.rewrites.base import motion_features
from liveportrait.errors import UserError
from liveportrait.networks import COMPACT, Networks, build, compact
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Motion

pytest.importorskip("numba", reason='pip install "liveportrait[cpu]"')

import numba

from liveportrait.engine.winograd import WinogradBackend, convolutions, elementwise, fourier, lanes
from liveportrait.engine.winograd.base import padded
from liveportrait.engine.winograd.compact import CompactGenerator
from liveportrait.engine.winograd.convolutions import (
    UpsampledConv2d,
    UpsampledConv3d,
    Winograd2d,
    Winograd3d,
    WinogradDepth3d,
)
from liveportrait.engine.winograd.fourier import FourierConv3d


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def last(x: Tensor) -> Tensor:
    """(1,C,...) as (...,C)."""
    return x[0].movedim(0, -1)


def relative(made: Tensor, expected: Tensor) -> float:
    return ((made - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 8), (5, 7), (18, 16)])
@pytest.mark.parametrize("bias", [True, False])
def test_tiles_add_up_to_the_convolution(height: int, width: int, bias: bool, monkeypatch) -> None:
    convolution, x = nn.Conv2d(3, 5, 3, padding=1, bias=bias), torch.randn(1, 3, height, width)
    for stripe in (1, 1 << 22):  # a row of tiles at once, and all
        monkeypatch.setattr(convolutions, "STRIPE", stripe)
        torch.testing.assert_close(Winograd2d(convolution)(last(x)), last(convolution(x)), atol=3e-6, rtol=0)


@pytest.mark.parametrize("stripe", [1, 1 << 22])
def test_a_map_with_repeated_pixels_is_never_stored(stripe: int, monkeypatch) -> None:
    monkeypatch.setattr(convolutions, "STRIPE", stripe)
    convolution, x = nn.Conv2d(3, 5, 3, padding=1), torch.randn(1, 3, 6, 6)
    index = torch.tensor([0, 1, 1, 2, 3, 4, 4, 5])
    by, made, tops = Winograd2d(convolution), torch.empty(1, 8, 8, 5), []
    for top, products in by.stripes(last(x).contiguous(), index):
        elementwise.transform_output(products, by.bias, 1, top, made)
        tops.append(top)
    assert tops == ([0, 4] if stripe == 1 else [0])
    expected = last(convolution(x[:, :, index][:, :, :, index]))
    torch.testing.assert_close(made[0], expected, atol=3e-6, rtol=0)


def test_winograd_has_the_stated_rounding_error() -> None:
    convolution = nn.Conv2d(64, 64, 3, padding=1)
    x = torch.randn(1, 64, 32, 32)
    expected = last(F.conv2d(x.double(), convolution.weight.double(), convolution.bias.double(), padding=1))
    assert relative(Winograd2d(convolution)(last(x)), expected) < 3e-6
    assert 5e-3 < relative(Winograd2d(convolution, torch.bfloat16)(last(x)), expected) < 2e-2


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_volumes_are_convolved_like_the_layers(depth: int, monkeypatch) -> None:
    x = torch.randn(1, 3, depth, 5, 6)
    convolution = nn.Conv3d(3, 4, 3, padding=1)
    torch.testing.assert_close(WinogradDepth3d(convolution)(last(x)), last(convolution(x)), atol=3e-6, rtol=0)
    for stripe in (1, 1 << 22):
        monkeypatch.setattr(convolutions, "STRIPE", stripe)
        made = Winograd3d(convolution)(last(x))
        torch.testing.assert_close(made, last(convolution(x)), atol=3e-6, rtol=0)
    enlarged = convolution(F.interpolate(x, scale_factor=(1, 2, 2)))
    torch.testing.assert_close(UpsampledConv3d(convolution, 2)(last(x)), last(enlarged), atol=3e-6, rtol=0)
    wide = nn.Conv3d(3, 4, (7, 3, 5), padding=(3, 1, 2))
    for tile in (2, 5, 32):
        monkeypatch.setattr(fourier, "TILE", tile)
        made = FourierConv3d(wide, 5, 6)(last(x))
        torch.testing.assert_close(made, last(wide(x)), atol=5e-6, rtol=0)


def test_motion_features() -> None:
    compressed, source = torch.rand(1, 4, 3, 6, 5), 0.8 * torch.randn(1, 21, 3)
    driving = source + 0.3 * torch.randn(1, 21, 3)
    driving[:, :3] += 5  # beyond every border
    out = torch.full((3, 6, 5, 112), torch.nan)
    elementwise.motion_features(compressed, source, driving, out)
    _, expected = motion_features(compressed, source, driving)
    torch.testing.assert_close(out[..., :110], last(expected), atol=2e-6, rtol=0)
    assert not out[..., 110:].any()


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_nine_products_convolve_an_upsampled_map(factor: int) -> None:
    convolution, x = nn.Conv2d(3, 5, 3, padding=1), torch.randn(1, 3, 4, 6)
    expected = last(convolution(F.interpolate(x, scale_factor=factor)))
    torch.testing.assert_close(UpsampledConv2d(convolution, factor)(last(x)), expected, atol=3e-6, rtol=0)


@pytest.mark.parametrize("kind", [Winograd2d, lambda convolution: UpsampledConv2d(convolution, 2)])
def test_convolutions_of_another_shape_are_refused(kind) -> None:
    for settings in ({"padding": 0}, {"padding": 1, "stride": 2}, {"padding": 1, "groups": 2}):
        with pytest.raises(ValueError, match="not 3 wide"):
            kind(nn.Conv2d(4, 4, 3, **settings))


def test_channels_of_zeros_change_nothing() -> None:
    convolution, x = nn.Conv3d(3, 4, 3, padding=1), torch.randn(1, 3, 2, 4, 4)
    made = padded(convolution, 2, 1)(torch.cat([x, torch.randn(1, 2, 2, 4, 4)], 1))
    torch.testing.assert_close(made[:, :4], convolution(x))
    assert not made[:, 4:].any()


def render(backend: EagerBackend | WinogradBackend, seed: int = 1) -> Tensor:
    """Three pictures of one source."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 3, 64, 64, generator=generator)
    motion = Motion(
        torch.eye(3).expand(3, 3, 3),
        torch.zeros(3, 3),
        torch.ones(3, 1),
        0.5 * torch.randn(3, 21, 3, generator=generator),
        torch.zeros(3, 21, 3),
    )
    driving = pose_of(motion)
    source = driving.rows(slice(1)).expand(3)
    features = {
        name: value.expand(3, *value.shape[1:]) for name, value in backend.appearance(images[:1]).items()
    }
    with torch.no_grad():
        return backend.render(features, source, driving, torch.zeros(len(driving.scale), 5)).paint


def contrasting() -> Networks:
    """Small networks whose pictures use the whole range, since grey ones would hide errors."""
    networks = small_networks()
    with torch.no_grad():
        networks.generator.conv_img[0].weight *= 8
    return networks


def test_base_matches_the_eager_back_end() -> None:
    networks = contrasting()
    expected = render(EagerBackend(networks))
    assert expected.std() > 0.2
    torch.testing.assert_close(render(WinogradBackend(networks)), expected, atol=1e-4, rtol=0)


def test_base_in_bf16_stays_within_its_tolerance() -> None:
    networks = contrasting()
    expected = render(EagerBackend(networks))
    difference = (render(WinogradBackend(networks, "bf16")) - expected).square().mean()
    assert 45 < -10 * difference.log10() < 80  # and it is another precision


def test_threads_share_a_frame_and_concurrent_frames_are_independent() -> None:
    backend = WinogradBackend(contrasting())
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = [render(backend, seed) for seed in range(4)]
        torch.set_num_threads(3)
        torch.testing.assert_close(render(backend, 0), alone[0], atol=1e-5, rtol=0)
        with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as lanes:
            for made, expected in zip(lanes.map(render, [backend] * 4, range(4)), alone, strict=True):
                torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)
    finally:
        torch.set_num_threads(before)


def test_unused_weights_are_released() -> None:
    networks = small_networks()
    given = weakref.ref(networks.generator.up_0.conv_0.weight)
    small = networks.stitching
    engine = Engine(networks, backend="winograd")
    del networks
    gc.collect()
    assert given() is None and small is not None and engine.can_stitch


def test_auto_chooses_it_with_numba_but_without_bfloat16(monkeypatch) -> None:
    def chosen(networks: Networks, precision: PrecisionChoice = "auto") -> tuple[str, str]:
        _, choice = make_backend("auto", networks, precision)
        return choice.backend, choice.reason

    base, compact = small_networks(), build(COMPACT)
    for bf16, backend in ((False, "winograd"), (True, "eager")):
        monkeypatch.setattr(backends, "computes_in_bf16", lambda bf16=bf16: bf16)
        assert chosen(base)[0] == "winograd"
        assert chosen(compact)[0] == backend
    assert chosen(compact, "fp32")[0] == "winograd" and chosen(compact, "bf16")[0] == "eager"
    assert "liveportrait[cpu]" not in chosen(compact)[1]
    monkeypatch.setattr(backends, "has_numba", lambda: False)
    for networks, precision in ((base, "auto"), (compact, "fp32")):
        backend, reason = chosen(networks, precision)
        assert backend == "eager" and "liveportrait[cpu]" in reason
    with pytest.raises(UserError, match=r"needs numba: pip install .*--backend eager"):
        make_backend("winograd", base)


def test_unsupported_choices_are_refused() -> None:
    with pytest.raises(UserError, match="precision 'bf16': choose fp32"):
        make_backend("winograd", build(COMPACT), "bf16")
    with pytest.raises(UserError, match="precision 'fp16': choose fp32 or bf16"):
        make_backend("winograd", small_networks(), "fp16")


@pytest.mark.parametrize("threads", [1, 3])
def test_compact_g_matches_the_eager_network(threads: int, monkeypatch) -> None:
    """Twice, with maps of another size in between: reused memory keeps its borders."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    generator = build(COMPACT).generator.eval().requires_grad_(False)
    randomise(generator)
    made = CompactGenerator(generator)
    for side in (32, 64, 32):
        shapes = {"volume": (64, 1), "hidden": (40, 1), "skip": (16, 2), "image": (3, 4)}
        warped = {
            name: torch.rand(2, count, side * scale // 4, side * scale // 4)
            for name, (count, scale) in shapes.items()
        }
        warped["hidden"] = warped["hidden"].contiguous(memory_format=torch.channels_last)
        for part, wanted in zip(made.layers(warped), generator.layers(warped), strict=True):
            assert wanted.std() > 0.01
            torch.testing.assert_close(part, wanted, atol=3e-5, rtol=1e-5)


def test_other_widths_of_g_are_not_replaced() -> None:
    narrow = dataclasses.replace(
        COMPACT, sizes=compact.Sizes(generator=compact.GeneratorSizes(trunk_channels=32))
    )
    networks = build(narrow)
    assert not CompactGenerator.fits(networks.generator)
    backend, _ = make_backend("winograd", networks)
    assert isinstance(backend._networks.generator, compact.generator.Generator)


def test_vectors_of_eight_numbers() -> None:
    values = np.linspace(-90, 90, 4000, dtype=np.float32)
    made = np.empty_like(values)

    @numba.njit
    def fill(given, out):
        for index in range(0, len(given), lanes.LANES):
            value = lanes.load(given, index)
            lanes.store(
                out, index, lanes.exponential(value) / lanes.exponential(value - lanes.spread(given, index))
            )

    fill(values, made)
    inside = np.abs(values) < 79
    expected = (
        np.exp(values.reshape(-1, lanes.LANES)[:, :1].astype(np.float64)).repeat(lanes.LANES, 1).flatten()
    )
    np.testing.assert_allclose(made[inside], expected[inside], rtol=2e-6)
