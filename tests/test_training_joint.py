"""The paper's joint training on drawn faces: it learns, keeps generator and discriminators apart, resumes, exports."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_base import SMALL_BASE, SMALL_COMPACT, build_compact_small, randomise
from synthetic_shards import make_shard

from liveportrait import weights
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.networks import Networks, build
from liveportrait.networks.geometry import pose_of
from liveportrait.training.checkpoint import TrainingState
from liveportrait.training.config import DataConfig, Schedule
from liveportrait.training.data.batches import batches
from liveportrait.training.data.corpora import Corpora
from liveportrait.training.data.corpus import Corpus, build_corpus, load_corpus
from liveportrait.training.data.samplers import PairSampler
from liveportrait.training.losses.perceptual import chip_map
from liveportrait.training.phase import Phase
from liveportrait.training.stage_one import run as stage_one
from liveportrait.training.stage_one.config import JointSettings, JointWeights, StageOneConfig, load_config
from liveportrait.training.stage_one.joint import JointTrainer, discriminator_loss
from liveportrait.training.stage_one.joint_model import GUIDES, Pair

CPU = torch.device("cpu")
COMPACT_WEIGHTS = JointWeights(
    keypoint_prior=0.0, deformation=0.0, head_pose=1.0, guide=1.0, equivariance=2.0, labels=1.0, layers=1.0,
    gan_whole=0.02, gan_face=0.02, gan_lips=0.02, identity=0.3,
)  # fmt: skip
JOINT = """
[joint]
size = 64
adversarial_from = 2
discriminator_channels = 8
fixed_statistics = true
schedule = { samples = 4, batch = 2, learning_rate = 1e-4, warmup_steps = 1 }
weights = { keypoint_prior = 0.0, labels = 1.0, layers = 1.0 }
"""
CONFIG = (
    """
init = "small"
bf16 = false
checkpoint_seconds = 0.0
[data]
shards = ["*.tar"]
frames_per_clip = 6
hold_out_one_in = 4
mode = "resident"
"""
    + JOINT
)


@pytest.fixture(scope="module", autouse=True)
def small_runs() -> Iterator[None]:
    """Runs train small compact networks, and validate little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage_one, "VALIDATION_BATCHES", 2)
        patch.setattr("liveportrait.training.stage_one.config.COMPACT", SMALL_COMPACT)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("joint")
    make_shard(folder / "a.tar", clips=6, pictures=6)
    (folder / "tiny.toml").write_text(CONFIG)
    weights.save(small_compact(), folder / "small", weights.Metadata("a test", "none"), dtype=torch.float32)
    return folder


def small_compact() -> Networks:
    torch.manual_seed(0)
    networks = build(SMALL_COMPACT)
    for module in networks.modules().values():
        randomise(module.eval())
    return networks


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    build_corpus([folder / "a.tar"], folder / "corpus", 6, 1, seed=0, held_out=True)
    return load_corpus(folder / "corpus")


def settings_for(architecture: str, **changes: object) -> JointSettings:
    schedule = Schedule(samples=1000, batch=2, learning_rate=1e-3, warmup_steps=1, weight_decay=0.0)
    loss_weights = COMPACT_WEIGHTS if architecture == "compact" else JointWeights()
    settings = JointSettings(
        schedule, size=64, weights=loss_weights, discriminator_channels=8, fixed_statistics=True
    )
    return dataclasses.replace(settings, **changes)  # type: ignore[arg-type]


def networks_for(architecture: str) -> Networks:
    if architecture == "compact":
        return weights.load("compact")
    torch.manual_seed(0)
    networks = build(SMALL_BASE)
    for module in networks.modules().values():
        randomise(module)
    return networks


def trainer_for(architecture: str, corpus: Corpus, **changes: object) -> JointTrainer:
    settings = settings_for(architecture, **changes)
    torch.manual_seed(0)
    chips = chip_map(corpus.landmarks)
    return JointTrainer(networks_for(architecture), settings, CPU, bf16=False, chips=chips)


def pair_for(corpus: Corpus, trainer: JointTrainer, count: int = 2) -> Pair:
    side = trainer.model.variant.input_size
    return Pair.of(next(batches(PairSampler(corpus, side), count, seed=0)), CPU)


def phase_for(trainer: JointTrainer, folder: Path) -> Phase:
    config = StageOneConfig(output=str(folder), checkpoint_seconds=1e9)
    return Phase("joint", config, trainer.settings.schedule, trainer.state)


@pytest.mark.parametrize("architecture", ["base", "compact"])
def test_a_few_steps_on_one_batch_lower_the_loss(architecture: str, corpus: Corpus, tmp_path: Path) -> None:
    trainer = trainer_for(architecture, corpus, adversarial_from=10**9)
    pair, phase = pair_for(corpus, trainer), phase_for(trainer, tmp_path)

    def loss() -> float:
        torch.manual_seed(5)
        with torch.no_grad():
            return float(trainer.generator_loss(pair, None)[0])

    before = loss()
    for _ in range(6):
        phase.turn(pair, trainer.losses)
    assert loss() < 0.95 * before


@pytest.mark.parametrize("architecture", ["base", "compact"])
def test_every_weighted_term_is_present_and_finite(architecture: str, corpus: Corpus) -> None:
    trainer = trainer_for(architecture, corpus)
    _, terms, _, _ = trainer.generator_loss(pair_for(corpus, trainer), trainer.discriminators)
    wanted = {name for name, value in dataclasses.asdict(trainer.settings.weights).items() if value > 0}
    assert wanted <= terms.keys()
    assert all(torch.isfinite(value) for value in terms.values())


def test_a_term_of_weight_zero_is_not_computed(corpus: Corpus) -> None:
    trainer = trainer_for("base", corpus, weights=JointWeights(guide=0, perceptual_face=0, identity=0))
    terms = trainer.generator_loss(pair_for(corpus, trainer), None)[1]
    assert not {"guide", "perceptual_face", "identity", "gan_whole"} & terms.keys()


def test_generator_and_discriminators_do_not_update_each_other(corpus: Corpus) -> None:
    trainer = trainer_for("base", corpus)
    adversaries = trainer.discriminators
    assert adversaries is not None
    state = {name: value.clone() for name, value in adversaries.state_dict().items()}
    loss, _, fake, real = trainer.generator_loss(pair_for(corpus, trainer), adversaries)
    loss.backward()
    assert all(p.grad is None for p in adversaries.parameters())
    assert all(torch.equal(state[name], value) for name, value in adversaries.state_dict().items())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in trainer.model.generator.parameters())
    trainer.model.zero_grad()
    discriminator_loss(adversaries, fake, real).backward()
    assert all(p.grad is None for p in trainer.model.parameters())
    assert all(p.grad is not None for p in adversaries.parameters())


def test_discriminators_wait_for_their_turn(corpus: Corpus, tmp_path: Path) -> None:
    trainer = trainer_for("base", corpus, adversarial_from=2)
    pair, phase = pair_for(corpus, trainer), phase_for(trainer, tmp_path)
    assert trainer.discriminators is not None
    first = {name: value.clone() for name, value in trainer.discriminators.state_dict().items()}
    phase.turn(pair, trainer.losses)
    assert all(torch.equal(first[n], v) for n, v in trainer.discriminators.state_dict().items())
    phase.turn(pair, trainer.losses)
    assert not all(torch.equal(first[n], v) for n, v in trainer.discriminators.state_dict().items())


def test_discriminators_learn_to_tell_real_from_fake(corpus: Corpus) -> None:
    trainer = trainer_for("base", corpus)
    adversaries = trainer.discriminators
    assert adversaries is not None
    with torch.no_grad():
        _, _, fake, real = trainer.generator_loss(pair_for(corpus, trainer), None)
    optimizer = torch.optim.Adam(adversaries.parameters(), lr=2e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = discriminator_loss(adversaries, fake, real)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_larger_outputs_are_compared_at_the_pictures_size(corpus: Corpus) -> None:
    trainer = trainer_for("base", corpus)
    _, _, fake, real = trainer.generator_loss(pair_for(corpus, trainer), None)
    assert SMALL_BASE.output_size == 128
    assert fake["whole"].shape == real["whole"].shape == (2, 3, 64, 64)


def test_the_guide_has_each_keypoint_and_landmark_once() -> None:
    assert len(GUIDES["base"]) == 10
    for pairs in GUIDES.values():
        for side in zip(*pairs, strict=True):
            assert len(set(side)) == len(side) and set(side) <= set(range(21))


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    return stage_one.run(folder / "tiny.toml", output=str(folder / "out"))


def test_the_run_logs_every_term_and_its_weights_render(folder: Path, trained: Path) -> None:
    line = json.loads((folder / "out" / "joint.jsonl").read_text().splitlines()[-1])
    terms = {
        "equivariance", "guide", "head_pose", "deformation", "labels", "layers", "layers/keep",
        "labels/openings", "perceptual_lips", "gan_face", "matching_whole", "discriminator", "identity",
        "held_out/psnr", "held_out/equivariance", "held_out/keypoints",
    }  # fmt: skip
    assert terms <= line.keys()
    assert (folder / "out" / "joint.png").exists()
    found = weights.load(trained)
    engine = Engine(found)
    picture = np.full((1, 256, 256, 3), 127, np.uint8)
    pose = pose_of(engine.extract_motion(picture))
    assert engine.render(engine.encode_appearance(picture), pose, pose).shape == (1, 256, 256, 3)
    start = weights.load(str(folder / "small")).generator.state_dict()["output.weight"]
    assert not torch.equal(found.generator.state_dict()["output.weight"], start)


def test_an_interrupted_joint_run_equals_an_uninterrupted_one(
    folder: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, save = folder / "again", TrainingState.save

    def dies_later(self: TrainingState, path: Path, about: dict[str, object]) -> None:
        if self.step == 2:
            raise KeyboardInterrupt
        save(self, path, about)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainingState, "save", dies_later)
        stage_one.run(folder / "tiny.toml", part="joint", output=str(out))
    stage_one.run(folder / "tiny.toml", part="joint", output=str(out))
    whole, resumed = (load_file(folder / run / "joint.safetensors") for run in ("out", "again"))
    assert whole.keys() == resumed.keys()
    assert max(float((whole[k].double() - resumed[k].double()).abs().max()) for k in whole) < 1e-6


def test_base_from_scratch_has_spectral_norm_that_saving_folds_in(
    folder: Path, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("liveportrait.training.stage_one.config.BASE", SMALL_BASE)
    config = StageOneConfig(
        variant="base",
        output=str(tmp_path / "run"),
        bf16=False,
        data=DataConfig(mode="resident"),
        joint=settings_for("base", schedule=Schedule(samples=4, batch=2, learning_rate=1e-4)),
    )
    stage_one.train_joint(config, tmp_path, Corpora(corpus, corpus))
    keys = load_file(tmp_path / "run" / "joint.safetensors").keys()
    assert any(key.endswith("conv_0.weight_orig") for key in keys)
    found = weights.load(stage_one.export(config))
    assert found.variant == SMALL_BASE
    assert not any("_orig" in key for key in found.generator.state_dict())


def test_the_joint_phase_starts_from_the_warm_start(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_compact_small(monkeypatch)
    networks = small_compact()
    average = {"motion": networks.motion}
    TrainingState(average, {}, average).save(tmp_path / "motion.safetensors", {})
    config = StageOneConfig(output=str(tmp_path))
    started = stage_one.starting_networks(config, tmp_path, corpus)
    wanted = networks.motion.state_dict()
    assert all(torch.equal(wanted[name], value) for name, value in started.motion.state_dict().items())


def test_weights_of_another_architecture_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    joint = settings_for("base", size=256)
    config = StageOneConfig(variant="base", init="compact", output=str(tmp_path), joint=joint)
    with pytest.raises(UserError, match="architecture 'compact'"):
        stage_one.starting_networks(config, tmp_path, corpus)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ("size = 64|size = 100", "joint.size is 100"),
        ("labels = 1.0|labels = -1.0", "joint.weights.labels is -1.0"),
        ("labels = 1.0|labels = inf", "joint.weights.labels is inf"),
        ("labels = 1.0|lables = 1.0", "unknown key joint.weights.lables"),
        ("adversarial_from = 2|perceptual = 'vgg16'", "joint.perceptual is 'vgg16'; choose one of"),
        ("adversarial_from = 2|perceptual = 'vgg19'", "joint.vgg19"),
        ("adversarial_from = 2|betas = [0.5]", "joint.betas"),
        ("adversarial_from = 2|known_motion = 2.0", "joint.known_motion is 2.0; it must be from 0 to 1"),
        ("batch = 2|batch = 0", "joint.schedule.batch is 0"),
        ('init = "small"|variant = "base"', "joint.size is 64; base compares at 256"),
        ('init = "small"|variant = "tiny"', "variant is 'tiny'; choose one of compact, base"),
    ],
)
def test_an_invalid_value_is_reported_with_file_and_key(tmp_path: Path, changed: str, named: str) -> None:
    old, new = changed.split("|")
    path = tmp_path / "wrong.toml"
    path.write_text(CONFIG.replace(old, new))
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert named in str(caught.value) and str(path) in str(caught.value)


def test_a_missing_vgg19_is_an_error_with_a_remedy(folder: Path, corpus: Corpus) -> None:
    with pytest.raises(UserError, match="safetensors"):
        JointTrainer(
            networks_for("base"), settings_for("base", perceptual="vgg19"), CPU, vgg19=folder / "none"
        )


def test_the_joint_part_needs_a_joint_table(folder: Path) -> None:
    path = folder / "without.toml"
    path.write_text(CONFIG.replace(JOINT, ""))
    with pytest.raises(UserError, match=r"\[joint\]"):
        stage_one.run(path, part="joint", output=str(folder / "without"))


@pytest.mark.parametrize("name", ["base", "compact-joint"])
def test_the_shipped_joint_configurations_are_valid(name: str) -> None:
    config = load_config(Path(__file__).parents[1] / "configs" / f"{name}.toml")
    assert stage_one.planned(config) == ("joint",)
