"""Fine detail of the source in what G paints."""

from __future__ import annotations

import torch

from liveportrait.networks import Layers
from liveportrait.networks.renderer import compose, with_detail

SIDE = 64
KEEP = 0.3


def textured() -> torch.Tensor:
    """A picture (1,3,S,S): grey with fine checks."""
    checks = (torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 2
    return (0.45 + 0.1 * checks.float()).expand(1, 3, -1, -1).contiguous()


def painted(painting: torch.Tensor) -> tuple[Layers, Layers]:
    """The layers of a painting before and after detail is taken from `textured`, which does not move."""
    keep = torch.full((1, 1, SIDE, SIDE), KEEP)
    flow = torch.nn.functional.affine_grid(torch.eye(2, 3)[None], [1, 3, SIDE, SIDE], align_corners=False)
    layers = Layers(flow, keep, (1 - keep) * painting)
    return layers, with_detail(layers, textured())


def picture(layers: Layers) -> torch.Tensor:
    return compose(layers, {"image": textured()})


def test_a_soft_painting_of_the_same_thing_gets_the_detail_of_the_source() -> None:
    before, after = painted(torch.full((1, 3, SIDE, SIDE), 0.5))
    assert picture(before).std() < 0.4 * textured().std()
    torch.testing.assert_close(picture(after), textured(), atol=2e-3, rtol=0)


def test_a_painting_of_something_else_stays() -> None:
    painting = torch.full((1, 3, SIDE, SIDE), 0.5)
    painting[..., : SIDE // 2] = 0.1  # the inside of a mouth
    before, after = painted(painting)
    inside, outside = slice(0, SIDE // 2 - 8), slice(SIDE // 2 + 8, SIDE)
    torch.testing.assert_close(picture(after)[..., inside], picture(before)[..., inside], atol=1e-3, rtol=0)
    torch.testing.assert_close(picture(after)[..., outside], textured()[..., outside], atol=2e-3, rtol=0)
    assert (after.keep >= before.keep).all() and (after.keep <= 1).all()
