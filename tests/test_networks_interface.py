"""Records of motions and poses: rows, devices, batches."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from liveportrait.networks.geometry import pose_of, rotation_matrix
from liveportrait.networks.interface import Motion, Pose


def motion(count: int) -> Motion:
    """A motion whose numbers encode their row."""
    row = torch.arange(count, dtype=torch.float32)
    return Motion(
        rotation=rotation_matrix(row, row, row),
        translation=row[:, None].expand(count, 3),
        scale=1 + row[:, None],
        canonical=row[:, None, None].expand(count, 21, 3),
        expression=row[:, None, None].expand(count, 21, 3),
    )


@pytest.mark.parametrize(
    ("index", "kept"),
    [
        ([2], [2]),
        ([-1, 0], [4, 0]),
        (slice(1, 3), [1, 2]),
        (torch.tensor([3, 3]), [3, 3]),
        (torch.tensor([True, False, False, True, False]), [0, 3]),
        (np.array([4, 1]), [4, 1]),
        (np.array([False, True, False, False, False]), [1]),
        ([], []),
    ],
)
def test_rows_keep_the_batch_axis_of_every_part(index: object, kept: list[int]) -> None:
    for record in (motion(5), pose_of(motion(5))):
        picked = record.rows(index)  # type: ignore[arg-type]
        assert type(picked) is type(record) and picked.batch == len(kept)
        for part, whole in zip(picked, record, strict=True):
            assert torch.equal(part, whole[torch.tensor(kept, dtype=torch.long)])


def test_concatenated_rows_equal_the_whole() -> None:
    whole = motion(5)
    joined = Motion.cat([whole.rows(slice(2)), whole.rows([2]), whole.rows(slice(3, None))])
    assert type(joined) is Motion
    assert all(torch.equal(part, other) for part, other in zip(joined, whole, strict=True))


def test_one_row_is_expanded_and_a_whole_batch_stays() -> None:
    one = pose_of(motion(1))
    many = one.expand(4)
    assert type(many) is Pose and [part.shape[0] for part in many] == [4] * 5
    assert many.keypoints.data_ptr() == one.keypoints.data_ptr()  # no copy
    assert torch.equal(motion(3).expand(3).scale, motion(3).scale)
    with pytest.raises(RuntimeError):
        motion(3).expand(4)


def test_to_takes_device_and_type_of_a_tensor() -> None:
    moved = motion(2).to(torch.zeros(1, dtype=torch.float64))
    assert [part.dtype for part in moved] == [torch.float64] * 5
    assert motion(2).to("meta").expression.device.type == "meta"


def test_map_applies_to_every_part() -> None:
    doubled = motion(3).map(lambda part: part * 2)
    assert torch.equal(doubled.scale, motion(3).scale * 2) and torch.equal(
        doubled.rotation, motion(3).rotation * 2
    )


def test_copies_keep_their_type() -> None:
    """Workers pickle them, and `_replace` is used throughout."""
    for record in (motion(2), pose_of(motion(2))):
        for other in (pickle.loads(pickle.dumps(record)), copy.deepcopy(record), record._replace()):
            assert type(other) is type(record)
            assert all(torch.equal(part, own) for part, own in zip(other, record, strict=True))


def test_they_can_be_compiled() -> None:
    def posed(motion: Motion) -> Pose:
        return pose_of(motion.rows(slice(0, 2))._replace(scale=motion.rows([1, 0]).scale))

    compiled = torch.compile(posed, backend="eager", fullgraph=True)(motion(3))
    assert type(compiled) is Pose
    assert torch.equal(compiled.keypoints, posed(motion(3)).keypoints)
