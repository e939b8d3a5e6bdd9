"""Keypoint indices are in one file only, and its tables agree with one another."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import liveportrait
from liveportrait.face.canonical import canonical_face
from liveportrait.motion import FACE_MESH, PUBLISHED
from liveportrait.motion.lifting import canonical_points
from liveportrait.networks import keypoints
from liveportrait.networks.interface import NUM_KEYPOINTS

ROOT = Path(liveportrait.__file__).parent
HOME = Path(keypoints.__file__)
# Nine landmarks of animals' faces; numbers of blendshapes.
OTHER_LAYOUTS = {ROOT / "networks" / "animal.py", ROOT / "training" / "expression_faces.py"}
LAYERS = ("networks", "motion", "animation", "metrics", "training", "evaluation")
GROUPS = {
    frozenset(value)
    for value in vars(keypoints).values()
    if isinstance(value, tuple) and all(isinstance(number, int) for number in value)
} | {frozenset(pair) for pair in enumerate(keypoints.MIRROR) if len(set(pair)) == 2}


def numbers(node: ast.AST) -> list[int]:
    """The members of a tuple, list or set of integers."""
    elements = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else []
    values = [element.value for element in elements if isinstance(element, ast.Constant)]
    return [value for value in values if type(value) is int] if len(values) == len(elements) else []


def spells_keypoints(node: ast.AST) -> bool:
    """Whether a literal lists keypoints: three or more different ones, or a pair that is a group.

    Lists of numbers up to 4 are ignored: they are more often axes and sizes than keypoints.
    """
    values = numbers(node)
    listed = len(values) >= 2 and len(set(values)) == len(values) and max(values) > 4 and min(values) >= 0
    return listed and max(values) < NUM_KEYPOINTS and (len(values) > 2 or frozenset(values) in GROUPS)


def test_no_other_file_has_keypoint_indices() -> None:
    places = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for layer in LAYERS
        for path in sorted((ROOT / layer).rglob("*.py"))
        if path != HOME and path not in OTHER_LAYOUTS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.expr) and spells_keypoints(node)
    ]
    assert not places, f"take the names from networks/keypoints.py: {places}"


@pytest.mark.parametrize(
    "text", ["(10, 11)", "points[:, [2, 3, 5]]", "{6: 1, 7: (16, 17, 18)}", "rows = (4, 5)"]
)
def test_the_search_detects_keypoint_indices(text: str) -> None:
    assert any(spells_keypoints(node) for node in ast.walk(ast.parse(text)))


def test_mirroring_twice_gives_the_keypoint_itself() -> None:
    mirror = keypoints.MIRROR
    assert [mirror[mirror[keypoint]] for keypoint in range(NUM_KEYPOINTS)] == list(range(NUM_KEYPOINTS))


def test_mirrored_keypoints_are_on_the_other_side_of_the_face() -> None:
    points, _ = canonical_points()
    mirrored = points[list(keypoints.MIRROR)] * np.array([-1, 1, 1], np.float32)
    np.testing.assert_allclose(mirrored, points, atol=0.02)  # in radii of the head


def test_keypoints_are_where_their_names_say() -> None:
    x, y, _ = canonical_points()[0].T  # right of the picture, down
    for name, number in vars(keypoints).items():
        if isinstance(number, int) and name.startswith("RIGHT_"):
            left = vars(keypoints)[name.replace("RIGHT_", "LEFT_")]
            assert keypoints.MIRROR[number] == left and x[number] < x[left], name
    column = [keypoints.FOREHEAD, keypoints.NOSE_TIP, keypoints.UPPER_OUTER_LIP, *keypoints.INNER_LIPS]
    column += [keypoints.LOWER_OUTER_LIP, keypoints.CHIN]
    assert (np.diff(y[column]) >= 0).all()
    assert y[keypoints.RIGHT_UPPER_LID] < y[keypoints.RIGHT_IRIS] < y[keypoints.RIGHT_LOWER_LID]


def test_mesh_points_are_distinct_and_those_of_the_face_lie_on_it() -> None:
    assert len(set(keypoints.MESH)) == NUM_KEYPOINTS
    on_skin = set(keypoints.MESH) - {keypoints.MESH[iris] for iris in keypoints.IRISES}
    assert max(on_skin) < len(canonical_face().vertices)


def test_groups_contain_every_part_once() -> None:
    parts = keypoints.EYES + keypoints.BROWS + keypoints.MOUTH + keypoints.JAW
    single = (keypoints.NOSE_TIP, keypoints.CHIN, keypoints.FOREHEAD)
    assert sorted(parts + single) == list(range(NUM_KEYPOINTS))
    assert set(keypoints.PUBLISHED_LANDMARKS) <= set(PUBLISHED.lips + PUBLISHED.eyes)
    for published, landmark in keypoints.PUBLISHED_LANDMARKS.items():
        assert (published in PUBLISHED.lips) == (landmark in FACE_MESH.lips)


def test_values_by_group_are_ordered_by_keypoint() -> None:
    rest = tuple(set(range(NUM_KEYPOINTS)) - set(keypoints.IRISES))
    values = keypoints.per_keypoint({rest: 1.0, keypoints.IRISES: 2.0})
    assert [index for index, value in enumerate(values) if value == 2.0] == list(keypoints.IRISES)
    for wrong in ({rest: 1.0}, {rest: 1.0, keypoints.EYES: 2.0}):
        with pytest.raises(ValueError, match="every keypoint once"):
            keypoints.per_keypoint(wrong)
