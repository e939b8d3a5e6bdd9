"""Fine-tuning end to end on drawn faces: from shards to a folder of weights, with figures before and after."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from synthetic_shards import make_shard

from liveportrait import weights
from liveportrait.apps.cli import main
from liveportrait.errors import UserError
from liveportrait.media.image import load_image, save_image
from liveportrait.training.data.corpus import build_corpus, load_corpus
from liveportrait.training.data.samplers import PairMix
from liveportrait.training.fine_tune import run as fine_tune
from liveportrait.training.fine_tune.data import picture_pairs, read, split, training_pairs
from liveportrait.training.fine_tune.run import settings_for, weights_for
from liveportrait.training.stage_one.joint import JointTrainer
from liveportrait.training.stage_one.joint_model import Pair, joint_model
from liveportrait.training.stage_one.validation import measure_joint
from liveportrait.weights.store import OPTIONAL

CPU = torch.device("cpu")


def make_unlabelled_shard(path: Path, count: int) -> None:
    """Noise pictures without labels, each as bright as its number."""
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        for number in range(count):
            picture = cv2.GaussianBlur(rng.integers(0, 255, (256, 256, 3), np.uint8), (0, 0), 6)
            jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
            about = json.dumps({"domain": "animal"}).encode()
            for suffix, content in (("jpg", jpeg), ("json", about)):
                member = tarfile.TarInfo(f"{number:04d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    make_shard(folder / "person.tar", clips=2, pictures=0)
    make_shard(folder / "style.tar", clips=0, pictures=8)
    make_unlabelled_shard(folder / "animals.tar", 7)
    return folder


@pytest.mark.parametrize("to", ["person", "animals"])
def test_from_shards_to_weights_with_figures(
    to: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tune, "HELD_OUT_BATCHES", 2)
    out = tmp_path / "tuned"

    def last(path: Path, picture: np.ndarray) -> None:
        assert not out.exists(), "everything is there before the folder has its name"
        save_image(path, picture)

    monkeypatch.setattr(fine_tune, "save_image", last)
    data = str(shards / f"{to}.tar")
    line = [
        "train",
        "fine-tune",
        "--data",
        data,
        "--to",
        to,
        "-o",
        str(out),
        "--samples",
        "4",
        "--size",
        "64",
    ]
    assert main(line) == 0
    printed = capsys.readouterr().out
    assert "before" in printed and "psnr_gain" in printed and "equivariance" in printed
    report = json.loads((out / "fine_tune.json").read_text())
    assert report["samples"] == 4 and report["to"] == to
    assert report["before"].keys() == report["after"].keys()
    assert report["before"]["psnr"] != report["after"]["psnr"]
    assert report["before"]["psnr_copy"] == report["after"]["psnr_copy"]
    assert load_image(out / "fine_tune.png").ndim == 3
    started, tuned = weights.load("compact"), weights.load(out)
    for name, module in started.modules().items():
        found = dict(tuned.modules()[name].named_parameters())
        kept = all(torch.equal(value, found[key]) for key, value in module.named_parameters())
        assert kept == (name in OPTIONAL)
    assert weights.describe(out).metadata.training["fine_tuned_from"] == "compact"


def test_animals_drop_the_terms_that_the_paper_drops() -> None:
    for architecture in ("compact", "base"):
        kept, person = weights_for("animals", architecture), weights_for("person", architecture)
        assert kept.head_pose == kept.gan_lips == kept.matching_lips == kept.identity == 0
        assert person.gan_lips > 0 and person.identity > 0
        assert kept.equivariance > 0 and kept.anchor > 0


def test_pairs_of_a_picture_move_by_their_transform(shards: Path, tmp_path: Path) -> None:
    train, _ = read([shards / "animals.tar"], tmp_path / "corpus", "animals", seed=0)
    first, second = (next(picture_pairs(train.pictures, 64, 2, CPU, seed=3)) for _ in range(2))
    assert torch.equal(first.driving, second.driving)  # random numbers depend on the seed alone
    assert first.transform is not None and first.driving_label is None
    assert torch.equal(first.transform.pictures(first.source), first.driving)
    assert not torch.allclose(first.source, first.driving, atol=0.02)


def test_pairs_of_the_same_picture_do_not_count_in_psnr(shards: Path, tmp_path: Path) -> None:
    train, _ = read([shards / "animals.tar"], tmp_path / "corpus", "animals", seed=0)
    moving = next(picture_pairs(train.pictures, 256, 2, CPU, seed=3))
    both = Pair(moving.source, torch.stack([moving.driving[0], moving.source[1]]))
    model = joint_model(weights.load("compact"), from_scratch=False)
    one = Pair(moving.source[:1], moving.driving[:1])
    (found, _), (alone, _) = (measure_joint(model, [pair], 64, None) for pair in (both, one))
    assert found["psnr_copy"] == pytest.approx(alone["psnr_copy"], abs=1e-4)
    assert np.isfinite(found["psnr"])


def test_held_out_animals_are_not_trained_on(shards: Path, tmp_path: Path) -> None:
    both = [shards / "animals.tar", shards / "style.tar"]
    train, held_out = read(both, tmp_path / "corpus", "animals", seed=0)
    assert len(train.pictures) == 6 and len(held_out.pictures) == 1
    assert train.labelled is not None and held_out.labelled is None
    assert not (train.pictures == held_out.pictures[0]).all((1, 2, 3)).any()


def test_labelled_faces_and_animals_are_mixed(shards: Path, tmp_path: Path) -> None:
    both = [shards / "animals.tar", shards / "style.tar"]
    train, _ = read(both, tmp_path / "corpus", "animals", seed=0)
    pairs = training_pairs(train, 64, PairMix(), CPU, seed=0)
    labelled = [next(pairs).driving_label is not None for _ in range(12)]
    assert any(labelled) and not all(labelled)


def test_few_clips_hold_out_their_ends_and_many_hold_out_entire_clips(tmp_path: Path) -> None:
    for name, clips, pictures in (("few", 2, 0), ("many", 0, 12)):
        make_shard(tmp_path / f"{name}.tar", clips, pictures)
        build_corpus([tmp_path / f"{name}.tar"], tmp_path / name, 64, 1, 0, held_out=True)
    few, many = load_corpus(tmp_path / "few"), load_corpus(tmp_path / "many")
    train, held_out = split(few)
    assert np.array_equal(held_out.clip, [0, 0, 1, 1]) and len(train.clip) == 20
    assert np.array_equal(held_out.frames[0], few.frames[10])
    assert np.array_equal(held_out.motion.rotation[2], few.motion.rotation[22])
    train, held_out = split(many)
    assert np.array_equal(held_out.clip, [10, 11]) and len(train.clip) == 10


def test_the_anchor_is_zero_at_the_start_and_holds_m_back(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("liveportrait.training.stage_one.joint_model.PATCH_JITTER", 0.0)
    train, _ = read([shards / "animals.tar"], tmp_path / "corpus", "animals", seed=0)
    trainer = JointTrainer(
        weights.load("compact"), settings_for("animals", "compact", 64, 8), CPU, bf16=False
    )
    trainer.model.fix_statistics()  # as every step does
    pair = next(training_pairs(train, 256, PairMix(), CPU, seed=0))
    assert float(trainer.generator_loss(pair, None)[1]["anchor"].detach()) < 1e-4
    with torch.no_grad():
        for parameter in trainer.model.motion.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    terms = trainer.generator_loss(pair, None)[1]
    assert float(terms["anchor"].detach()) > 1e-3
    assert {"equivariance", "consistency", "deformation", "layers"} <= terms.keys()
    assert {"head_pose", "guide", "labels", "identity"}.isdisjoint(terms)


@pytest.mark.parametrize(
    ("data", "to", "options", "named"),
    [
        ("style", "animals", {}, "--to style"),
        ("animals", "style", {}, "No labelled"),
        ("style", "style", {"minutes": 0.0}, "--minutes is 0.0"),
        ("style", "style", {"samples": 0}, "--samples is 0"),
        ("style", "style", {"size": 100}, "--size is 100"),
    ],
)
def test_invalid_requests_are_reported_in_one_sentence(
    data: str, to: fine_tune.Target, options: dict[str, float], named: str, shards: Path, tmp_path: Path
) -> None:
    chosen = fine_tune.Options(to, **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=named):
        fine_tune.run("compact", [shards / f"{data}.tar"], tmp_path / "out", chosen)
    assert not (tmp_path / "out").exists()


def test_an_existing_output_is_refused_at_once(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(UserError, match="exists already"):
        fine_tune.run("compact", [shards / "style.tar"], tmp_path, fine_tune.Options("style", samples=4))
