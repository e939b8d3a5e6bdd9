"""Rows that compare the program with the published one's arithmetic, and their inputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import published_reference as published
import torch

from liveportrait.choices import Region
from liveportrait.engine import Engine
from liveportrait.motion import PUBLISHED
from liveportrait.networks.geometry import rotation_matrix
from liveportrait.networks.interface import Motion

PAGE = Path(__file__).parents[1] / "docs/reference/published.md"
FRAMES = 6
FPS = Fraction(25)
REGIONS: dict[str, Region] = {
    "all": "all",
    "exp": "expression",
    "pose": "pose",
    "lip": "lips",
    "eyes": "eyes",
}
NEUTRAL = PUBLISHED.neutral_expression().double().numpy()
COORDINATE = 1e-6  # rounding of float32 in keypoints


class Row(NamedTuple):
    """The program's result, the published one's, and the largest difference that counts as equal."""

    name: str
    ours: Any
    published: Any
    tolerance: float = 0.0


Rows = Iterator[Row]
Section = Callable[[Engine], Rows]


def check(section: Section, engine: Engine) -> None:
    """Check that every row of a section is equal, and that the page states their number."""
    count = 0
    for count, row in enumerate(section(engine), 1):  # noqa: B007  # counted for the page
        if isinstance(row.ours, np.ndarray) or isinstance(row.published, float):
            ours, wanted = np.asarray(row.ours, float), np.asarray(row.published, float)
            np.testing.assert_allclose(ours, wanted, atol=row.tolerance, rtol=0, err_msg=row.name)
        else:
            assert row.ours == row.published, row.name
    name = section.__name__.replace("_", " ")
    stated = re.search(rf"^\| {name} \|.*\| (\d+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert stated and int(stated[1]) == count, f"{PAGE.name} shall say that {name} are {count} rows"


def motion(count: int, seed: int) -> Motion:
    """A plausible motion of one face; depth moves too, and must not matter."""
    noise = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(count, *shape, generator=noise)

    return Motion(
        rotation=rotation_matrix(*(10 * some() for _ in range(3))),
        translation=0.1 * some(3),
        scale=1.3 + 0.05 * some(1),
        canonical=0.3 * some(21, 3)[:1].expand(count, -1, -1),
        expression=0.03 * some(21, 3),
    )


def numbers(motion: Motion) -> published.Motion:
    """The motion in the format of the reference."""
    names = {"R": motion.rotation, "t": motion.translation, "scale": motion.scale}
    names |= {"kp": motion.canonical, "exp": motion.expression}
    return {name: value.double().cpu().numpy() for name, value in names.items()}


def ratios(count: int, seed: int) -> torch.Tensor:
    """Openings (count,3) of left eye, right eye and lips."""
    return 0.05 + 0.35 * torch.rand(count, 3, generator=torch.Generator().manual_seed(seed))


def modules(engine: Engine) -> dict[str, published.MLP]:
    """Weights and biases of the small networks."""
    found = {}
    for name, module in (
        ("stitching", engine._stitching),
        ("eye", engine._eye_retargeting),
        ("lip", engine._lip_retargeting),
    ):
        state = {key: value.double().numpy() for key, value in module.state_dict().items()}
        layers = sorted({int(key.split(".")[1]) for key in state})
        found[name] = [(state[f"mlp.{layer}.weight"], state[f"mlp.{layer}.bias"]) for layer in layers]
    return found


def expected(
    engine: Engine, source: Motion, driving: Motion, region: str, relative: bool, **finish: Any
) -> np.ndarray:
    """The keypoints (N,21,3) of the reference; batch 1 is a picture."""
    own, theirs = as_long(source, driving)
    moved = published.transferred(
        own, theirs, region, relative, NEUTRAL, source.batch > 1, driving.batch == 1
    )
    x_s, x_d = published.keypoints(own), published.keypoints(moved)
    return published.finished(x_s, x_d, modules(engine), relative, **finish)


def as_long(source: Motion, driving: Motion) -> tuple[published.Motion, published.Motion]:
    """Source and driver for the reference, with the same number of frames; a picture is repeated."""
    count = max(source.batch, driving.batch)
    ours, theirs = (
        published.repeated(each, count) if len(each["R"]) == 1 else each
        for each in map(numbers, (source, driving))
    )
    return ours, theirs
