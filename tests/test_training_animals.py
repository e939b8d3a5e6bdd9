"""The animals' detector: its views, its losses, its training and its figures."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from skimage.data import astronaut

from liveportrait.data.shards import is_held_out
from liveportrait.errors import UserError
from liveportrait.face.animals import AnimalDetector
from liveportrait.networks.animal import LANDMARKS, MIRRORED, SIDE, AnimalReading, face_size
from liveportrait.networks.geometry import pixel_grid
from liveportrait.training.animals import train as animal_detector
from liveportrait.training.animals import validation as animal_measure
from liveportrait.training.animals.train import HELD_OUT_ONE_IN, DetectorOptions, landmarks_of_crops, losses
from liveportrait.training.animals.views import Labelled, draw_view

POINTS = np.array(
    [[90, 90], [90, 104], [166, 90], [166, 104], [128, 150], [128, 168], [108, 172], [148, 172], [128, 190]],
    np.float32,
)  # fmt: skip


def cat() -> Labelled:
    """A grey head with a red nose."""
    picture = np.full((256, 256, 3), 90, np.uint8)
    cv2.circle(picture, (128, 128), 90, (150, 150, 150), -1)
    cv2.circle(picture, (128, 150), 11, (250, 0, 0), -1)
    return Labelled(picture, POINTS)


def shard(path: Path, keys: list[str], domain: str) -> Path:
    """A shard of pictures without labels."""
    with tarfile.open(path, "w") as tar:
        for number, key in enumerate(keys):
            picture = cat().picture if domain == "animal" else astronaut()[number : 256 + number, 100:356]
            encoded = cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes()
            for suffix, data in (("jpg", encoded), ("json", json.dumps({"domain": domain}).encode())):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> tuple[list[Path], list[Path]]:
    folder = tmp_path_factory.mktemp("shards")
    known = sorted(landmarks_of_crops(), key=lambda key: is_held_out(key, HELD_OUT_ONE_IN))
    names = [f"person{number}" for number in range(12)]
    return [shard(folder / "a.tar", [*known[:2], known[-1]], "animal")], [
        shard(folder / "p.tar", names, "photo")
    ]


def test_landmarks_follow_the_face():
    rng = np.random.default_rng(0)
    red = []
    for _ in range(60):
        view = draw_view([cat()], [astronaut()[:256, 100:356]], rng)
        assert view.picture.shape == (SIDE, SIDE, 3)
        if not view.is_there:
            assert not view.points.any()
            continue
        x, y = np.rint((view.points[4] + 1) * SIDE / 2 - 0.5).astype(int)
        if 3 <= x < SIDE - 3 and 3 <= y < SIDE - 3 and face_size(torch.from_numpy(view.points)) > 0.15:
            nose = view.picture[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).mean(0)
            red.append(nose[0] > nose[1] + 30)
        across = view.points[2] - view.points[0]
        down = view.points[8] - view.points[0]
        assert across[0] * down[1] - across[1] * down[0] > 0  # never a mirror image
    assert len(red) > 15 and np.mean(red) > 0.7  # some views are grey


def perfect(points: torch.Tensor, cells: int = 24) -> AnimalReading:
    """The reading of a perfect network."""
    grid = pixel_grid(cells, cells, torch.device("cpu"))
    away = (grid[None] - points.mean(1)[:, None, None]).norm(dim=-1)
    centre = torch.where(away <= away.flatten(1).min(1).values[:, None, None], 9.0, -9.0)
    size = face_size(points).log()[:, None, None].expand(-1, cells, cells)
    spread = 0.09 * face_size(points)[:, None, None]
    heat = -(grid.reshape(-1, 2) - points[:, :, None]).square().sum(-1) / (2 * spread.clamp(min=0.04) ** 2)
    return AnimalReading(centre, size, points[:, None, None].expand(-1, cells, cells, -1, -1), heat)


def test_losses_are_lowest_for_correct_predictions():
    points = torch.from_numpy((POINTS + 0.5) / 128 - 1)[None] * 0.7
    there = torch.tensor([True])
    right = losses(perfect(points), points, there)
    wrong = losses(perfect(points + 0.15), points, there)
    assert right["place"] < 0.05 and right["points"] < 1e-6 and right["size"] < 1e-6
    assert all(right[name] < wrong[name] for name in ("centre", "points", "place", "spread"))
    nothing = losses(perfect(points), points, torch.tensor([False]))
    assert nothing["centre"] > right["centre"] and nothing["place"] == 0


def test_mirrored_rows_are_those_of_the_other_side():
    mirrored = POINTS[list(MIRRORED)] * [-1, 1] + [256, 0]
    assert np.allclose(mirrored, POINTS) and len(MIRRORED) == LANDMARKS


def test_a_detector_is_trained_written_and_measured(shards, tmp_path, monkeypatch):
    crops, people = shards
    options = DetectorOptions(views=12, epochs=2, batch=4)
    network = animal_detector.train(crops, people, tmp_path / "one.safetensors", options)
    fresh = animal_detector.new_network()
    changed = {
        name
        for name, value in network.state_dict().items()
        if not torch.equal(value, fresh.state_dict()[name])
    }
    assert changed and not any(name.startswith(("stem", "blocks")) for name in changed)
    animal_detector.train(crops, people, tmp_path / "two.safetensors", options)
    once, again = (load_file(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert once.keys() == again.keys() and all(torch.equal(once[name], again[name]) for name in once)
    monkeypatch.setattr(animal_measure, "PEOPLE", 1)
    figures = animal_measure.measure(tmp_path / "one.safetensors", crops, people)
    assert (figures.crops, figures.scenes, figures.pictures) == (1, 1, 1)
    assert "of 1 crops" in figures.table()
    assert AnimalDetector(tmp_path / "one.safetensors").detect(np.zeros((40, 60, 3), np.uint8)) == []


def test_unusable_data_is_refused(shards, tmp_path):
    crops, people = shards
    with pytest.raises(UserError, match="has landmarks"):
        animal_detector.train(people, people, tmp_path / "x.safetensors", DetectorOptions(views=1))
    with pytest.raises(UserError, match="no pictures other than of animals"):
        animal_detector.train(crops, crops, tmp_path / "x.safetensors", DetectorOptions(views=1))
    with pytest.raises(UserError, match="greater than 0"):
        animal_detector.train(crops, people, tmp_path / "x.safetensors", DetectorOptions(views=0))
    assert not list(tmp_path.iterdir())
