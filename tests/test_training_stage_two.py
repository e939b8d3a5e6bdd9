"""Stage two: its losses by hand, and complete runs on drawn faces with small networks of both architectures."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from skimage.data import astronaut
from small_base import SMALL_BASE, SMALL_COMPACT, randomise
from synthetic_shards import make_shard, project, turn

from liveportrait import weights
from liveportrait.engine import Engine
from liveportrait.errors import UserError
from liveportrait.face import default_analyzer
from liveportrait.face.canonical import canonical_face
from liveportrait.face.measures import eye_ratios, lip_ratio
from liveportrait.motion import groups_for
from liveportrait.motion.lifting import MESH_ROWS
from liveportrait.networks import build
from liveportrait.networks.geometry import pixel_grid, transform_keypoints
from liveportrait.networks.interface import Motion
from liveportrait.training.data.corpus import build_corpus, load_corpus
from liveportrait.training.stage_two import run as stage_two
from liveportrait.training.stage_two.closed_form import (
    RenderedOpenings,
    closed_form,
    fit_response,
    learn_closed_form,
    measured_openings,
    opening_effect,
)
from liveportrait.training.stage_two.config import load_config
from liveportrait.training.stage_two.losses import (
    RetargetingLosses,
    ellipse,
    eye_mask,
    flow_length,
    head_mask,
    held_region,
    lip_mask,
    outside_difference,
)
from liveportrait.training.stage_two.opening_regressor import OpeningRegressor, Patch, cut, patches
from liveportrait.training.stage_two.samplers import (
    ABSOLUTE,
    STILL,
    DriveMix,
    MotionBank,
    SourceSampler,
    displaced,
    drive,
    ratios_of,
)

CONFIG = """
bf16 = false
checkpoint_seconds = 0.0
bank_clips = 3
bank_frames = 4
held_out_sources = 1
held_out_drives = 2
[data]
shards = ["*.tar"]
frames_per_clip = 6
hold_out_one_in = 3
mode = "resident"
[reader]
rendered = 0
schedule = { samples = 6, batch = 2, learning_rate = 1e-3, warmup_steps = 1 }
[stitching]
drives = 2
schedule = { samples = 4, batch = 2, learning_rate = 1e-3, warmup_steps = 1 }
[eyes]
requests = 2
closed_form_steps = 3
schedule = { samples = 4, batch = 2, learning_rate = 1e-3, warmup_steps = 1 }
[lips]
requests = 2
closed_form_steps = 3
schedule = { samples = 4, batch = 2, learning_rate = 1e-3, warmup_steps = 1 }
"""
FLOW = """
[stitching.flow]
sources = 6
size = 64
schedule = { samples = 6, batch = 2, learning_rate = 1e-3, warmup_steps = 1 }
"""
FROZEN = ("appearance", "motion", "warping", "generator")


def landmarks_of(*shifts: tuple[float, float]) -> torch.Tensor:
    """Landmarks (B,111,2) px of the frontal canonical face, moved by shifts in px."""
    return torch.from_numpy(np.stack([project(turn(0, 0, 0), 8.0, np.array(shift)) for shift in shifts]))


def a_bank(clips: int, frames: int, effect: np.ndarray | None = None) -> MotionBank:
    """Random motions whose keypoints follow random openings through `effect` (3,21,3) in the head's frame."""
    rng = np.random.default_rng(0)
    count = clips * frames
    openings = rng.uniform(0, 0.5, (count, 3)).astype(np.float32)
    rotation = np.stack([turn(*angles) for angles in rng.uniform(-0.3, 0.3, (count, 3))])
    identity = np.repeat(rng.normal(size=(clips, 21, 3)), frames, 0).astype(np.float32)
    local = np.zeros((count, 21, 3)) if effect is None else np.einsum("nk,kpc->npc", openings, effect)
    motion = Motion(
        torch.from_numpy(rotation),
        torch.zeros(count, 3),
        torch.full((count, 1), 0.3),
        torch.from_numpy(identity),
        torch.from_numpy((local @ rotation).astype(np.float32)),
    )
    return MotionBank(motion, torch.from_numpy(openings), frames)


def test_openings_equal_those_of_the_face_mesh() -> None:
    mesh = np.concatenate([canonical_face().vertices, np.zeros((10, 3), np.float32)])
    some = mesh + np.random.default_rng(1).normal(0, 0.2, mesh.shape).astype(np.float32)
    expected = np.concatenate([eye_ratios(some), lip_ratio(some)])
    assert np.abs(ratios_of(some[None, list(MESH_ROWS), :2])[0] - expected).max() < 1e-5


def test_pixels_inside_the_region_do_not_count() -> None:
    picture, recon = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    picture[..., :2] = 0.8  # the left half differs by 0.8, and
    picture[..., 3] = 0.3  # the last column by 0.3
    mask = torch.zeros(1, 4, 4)
    mask[..., :2] = 1
    assert outside_difference(picture, recon, mask).item() == pytest.approx(0.15, abs=1e-5)
    assert outside_difference(picture, recon, torch.zeros(1, 4, 4)).item() == pytest.approx(
        (0.8 * 2 + 0.3) / 4, abs=1e-5
    )


def test_flow_is_measured_from_the_identity_or_from_another_flow() -> None:
    grid = pixel_grid(8, 8, torch.device("cpu"))[None]
    flow = grid + torch.tensor([0.03, 0.04])
    weight = torch.zeros(1, 8, 8)
    weight[:, 6:] = 1
    assert flow_length(flow, weight).item() == pytest.approx(0.5, abs=1e-2)  # 0.05, in tenths
    assert flow_length(flow, weight, flow).item() == pytest.approx(0, abs=2e-3)


def test_regions_keep_shoulders_and_border_and_free_what_may_change() -> None:
    landmarks, still = landmarks_of((0, -20)), torch.zeros(1, 2)
    head = head_mask(landmarks, still, 64)
    inside = (landmarks[0] / 4).long()
    assert (head[0, inside[:, 1], inside[:, 0]] > 0.8).all()
    held = held_region(head)
    assert (held[0, -6:] > 0.9).all()  # shoulders
    assert (held[0, 0] == 1).all() and (held[0, :, 0] == 1).all() and (held[0, :, -1] == 1).all()
    moved = head_mask(landmarks, torch.tensor([[0.3, 0.0]]), 64)
    assert moved.sum() > head.sum() and (moved >= head - 1e-6).all()
    eyes, lips = eye_mask(landmarks, 64), lip_mask(landmarks, 64)
    assert torch.minimum(eyes, lips).max() < 0.1
    for region, rows in ((eyes, range(36, 68)), (lips, range(68, 108))):
        points = inside[list(rows)]
        assert (region[0, points[:, 1], points[:, 0]] > 0.9).all()
    assert ellipse(torch.zeros(1, 2), torch.tensor([[0.5, 0.25]]), 64).mean().item() == pytest.approx(
        np.pi * 0.5 * 0.25 / 4, rel=0.1
    )


def test_patches_follow_the_head_and_not_its_expression() -> None:
    landmarks = landmarks_of((0, 0), (12, -6))
    for place in patches(landmarks):
        assert torch.allclose(place.centre[1] - place.centre[0], torch.tensor([12, -6]) / 128, atol=1e-6)
        assert torch.allclose(place.across[0], place.across[1]) and torch.allclose(
            place.down[0], place.down[1]
        )
    opened = landmarks.clone()
    opened[:, 68:108, 1] += 15 * torch.rand(2, 40)
    for row in (159, 145, 386, 374):
        opened[:, MESH_ROWS.index(row), 1] += 5
    for before, after in zip(patches(landmarks), patches(opened), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_patch_of_twice_the_height_shows_half_the_opening() -> None:
    picture = torch.zeros(1, 3, 256, 256)
    picture[..., 108:148, :] = 1  # a bar 40 px high
    place = Patch(torch.zeros(1, 2), torch.tensor([[0.4, 0.0]]), torch.tensor([[0.0, 0.4]]))
    once, twice = (
        cut(picture, p, (64, 64)).mean().item() for p in (place, place.stretched(torch.tensor([2.0])))
    )
    assert once == pytest.approx(40 / 102.4, abs=0.02) and twice == pytest.approx(once / 2, abs=0.02)


def test_the_closed_form_finds_how_keypoints_follow_openings() -> None:
    effect = np.zeros((3, 21, 3), np.float32)
    effect[0, 1, 1], effect[1, 3, 1], effect[2, 12, 1], effect[2, 17, 1] = -0.4, -0.5, 0.6, 0.3
    bank = a_bank(30, 8, effect)
    found = opening_effect(bank)
    assert np.abs(found.numpy() - effect).max() < 0.01
    source = Motion(*(part[:2] for part in bank.motion))
    ratios, wanted = bank.ratios[:2], torch.tensor([0.0, 0.5])
    offset = closed_form(source, ratios, wanted, found, "lips")
    upright = (offset / 0.3) @ source.rotation.transpose(1, 2)
    assert torch.allclose(upright[:, 12, 1], 0.6 * (wanted - ratios[:, 2]), atol=0.01)
    assert offset[:, 1].abs().max() < 1e-6


def test_a_module_learns_the_closed_form() -> None:
    effect = np.zeros((3, 21, 3), np.float32)
    effect[2, 13, 1] = 0.6
    bank = a_bank(30, 8, effect)
    torch.manual_seed(0)
    module = build(SMALL_COMPACT, retargeting=True).lip_retargeting
    assert module is not None
    learn_closed_form(module, bank, "lips", steps=150, highest=0.8)
    wanted = torch.full((240, 1), 0.7)
    with torch.no_grad():
        found = module(transform_keypoints(bank.motion), torch.cat([bank.ratios[:, 2:], wanted], 1))
    truth = closed_form(bank.motion, bank.ratios, wanted[:, 0], opening_effect(bank), "lips")
    assert (found - truth)[:, 13].abs().mean() < 0.3 * truth[:, 13].abs().mean()


def test_request_for_inverts_the_response() -> None:
    rng = np.random.default_rng(0)
    own, asked = (torch.from_numpy(rng.uniform(0, 1, 500).astype(np.float32)) for _ in range(2))
    response = fit_response(
        own, asked, 0.05 + 0.5 * asked + 0.2 * own
    )  # a face that opens half as far as requested
    request = response.request_for(torch.tensor([0.0, 0.5]), torch.tensor([0.3, 0.3]))
    assert torch.allclose(request, torch.tensor([0.5, 0.3]), atol=0.02)


def test_rendered_openings_are_read_back_as_saved(tmp_path: Path) -> None:
    picture = np.ascontiguousarray(astronaut()[:256, 100:356])
    openings = measured_openings(default_analyzer(), picture)
    assert openings is not None and openings[:2].min() > 0.1 and openings.max() < 0.6
    rng = np.random.default_rng(0)
    asked = rng.uniform(0, 1, (40, 2)).astype(np.float32)
    made = RenderedOpenings(
        np.stack([picture] * 40), landmarks_of(*[(0, 0)] * 40).numpy(), np.stack([openings] * 40), asked,
        np.stack([asked[:, 0], asked[:, 0], 0.5 * asked[:, 1]], 1),
    )  # fmt: skip
    made.save(tmp_path / "rendered")
    read = RenderedOpenings.load(tmp_path / "rendered")
    assert all(np.array_equal(getattr(read, name), value) for name, value in vars(made).items())
    own = torch.from_numpy(openings[2:])
    assert read.response("lips").request_for(own, torch.tensor([0.2])).item() == pytest.approx(0.4, abs=0.05)
    assert measured_openings(default_analyzer(), np.zeros((256, 256, 3), np.uint8)) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stage-two")
    make_shard(folder / "a.tar", clips=8, pictures=8)
    (folder / "tiny.toml").write_text(CONFIG + FLOW)
    (folder / "base.toml").write_text(CONFIG)
    return folder


@pytest.fixture(scope="module")
def small_weights(folder: Path) -> dict[str, Path]:
    made = {}
    for variant in (SMALL_BASE, SMALL_COMPACT):
        torch.manual_seed(1)
        networks = build(variant)
        for module in networks.modules().values():
            randomise(module.eval())
        made[variant.name] = folder / variant.name
        metadata = weights.Metadata("a test", "none", {"samples": 3})
        weights.save(networks, made[variant.name], metadata, dtype=torch.float32)
    return made


@pytest.fixture(scope="module")
def compact_run(folder: Path, small_weights: dict[str, Path]) -> Path:
    return stage_two.run(folder / "tiny.toml", str(small_weights["small-compact"]), str(folder / "compact"))


def test_drives_are_in_range_and_from_one_clip(folder: Path) -> None:
    build_corpus([folder / "a.tar"], folder / "corpus", 6, one_in=1000, seed=0)
    bank = a_bank(3, 4)
    sampler = SourceSampler(load_corpus(folder / "corpus"), bank, DriveMix(), 400, highest=0.8)
    drawn = sampler(np.random.default_rng(0))
    wanted = drawn["wanted"]
    assert wanted.min() >= 0 and wanted.max() <= 0.8 and wanted.min() < 0.01 and wanted.max() > 0.79
    first, now, kind = (drawn[name].astype(int) for name in ("first", "now", "kind"))
    assert (first // 4 == now // 4).all() and set(first // 4) == {0, 1, 2}  # two frames of one clip
    shares = np.bincount(kind, minlength=3) / 400
    assert np.abs(shares - [0.1, 0.6, 0.3]).max() < 0.06
    batch = {
        name: torch.from_numpy(drawn[name]) for name in ("kind", "first", "now", "shift", "zoom", "turn")
    }
    source = Motion(*(part[:1].expand(400, *part.shape[1:]) for part in bank.motion))
    driven = drive(source, batch, bank, groups_for(SMALL_COMPACT))
    still = batch["kind"] == STILL
    assert all(torch.allclose(a[still], b[still]) for a, b in zip(driven, source, strict=True))
    taken = (batch["kind"] == ABSOLUTE) & (batch["zoom"] == 0)
    assert taken.any()
    assert torch.allclose(driven.rotation[taken], bank.motion.rotation[batch["now"]][taken], atol=1e-6)


def test_a_moved_motion_moves_its_keypoints() -> None:
    motion = a_bank(2, 2).motion
    shift, zoom = torch.full((4, 2), 0.1), torch.full((4,), 0.2)
    moved = displaced(motion, shift, zoom, torch.tensor([[0.0, 0.0, 90.0]]).expand(4, 3))
    before, after = transform_keypoints(motion), transform_keypoints(moved)
    quarter = torch.stack([-before[..., 1], before[..., 0]], -1) * torch.tensor(0.2).exp() + 0.1
    assert torch.allclose(after[..., :2], quarter, atol=1e-5)


@pytest.mark.parametrize("name", ["small-base", "small-compact"])
def test_a_run_adds_modules_and_changes_nothing_else(
    folder: Path, small_weights: dict[str, Path], compact_run: Path, name: str
) -> None:
    if name == "small-compact":
        made = compact_run
    else:
        made = stage_two.run(folder / "base.toml", str(small_weights[name]), str(folder / "base"))
    before, after = (load_file(path / "model.safetensors") for path in (small_weights[name], made))
    assert all(torch.equal(before[key], after[key]) for key in before)
    added = {key.split(".")[0] for key in after.keys() - before.keys()}
    assert added == {"stitching", "eye_retargeting", "lip_retargeting"}
    assert all(after[f"{part}.mlp.0.weight"].isfinite().all() for part in added)
    assert after["stitching.mlp.6.bias"].abs().max() > 0  # it starts at zero
    engine = Engine(weights.load(made))
    assert engine.can_stitch
    keypoints = torch.randn(2, 21, 3)
    assert engine.retarget_eyes(keypoints, torch.rand(2, 3)).shape == (2, 21, 3)
    described = weights.describe(made)
    assert described.metadata.training["samples"] == 3 and "stage_two" in described.metadata.training


def test_curves_have_every_term(compact_run: Path) -> None:
    for part, terms in (
        ("reader", ("eyes", "lips", "held_out/eyes_error")),
        ("stitching-flow", ("still", "face", "regularity", "held_out/still")),
        ("stitching", ("outside", "still", "face", "regularity", "held_out/flow_share")),
        ("eyes", ("outside", "condition", "regularity")),
        ("lips", ("outside", "condition", "regularity")),
    ):
        lines = (compact_run.parent / f"{part}.jsonl").read_text().splitlines()
        assert set(terms) <= json.loads(lines[-1]).keys(), part


def test_a_resumed_run_equals_an_uninterrupted_one(
    folder: Path, small_weights: dict[str, Path], compact_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = folder / "resumed"
    shutil.copytree(compact_run.parent, out)
    for name in ("stitching-flow", "stitching", "eyes"):
        (out / f"{name}.safetensors").unlink()
    from liveportrait.training.phase import Phase

    log, arguments = Phase.log, (folder / "tiny.toml", str(small_weights["small-compact"]), str(out))

    def killed(self: Phase, *args: object) -> None:
        log(self, *args)  # type: ignore[arg-type]
        if self.state.step == 1:
            raise KeyboardInterrupt

    for name in ("stitching", "eyes"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Phase, "log", killed)
            stage_two.run(*arguments, part=name)
        stage_two.run(*arguments, part=name)
        ours, theirs = (load_file(run / f"{name}.safetensors") for run in (out, compact_run.parent))
        assert ours.keys() == theirs.keys()
        assert all(torch.allclose(ours[key], theirs[key], atol=1e-6) for key in ours), name


def test_a_run_can_start_from_another(
    folder: Path, small_weights: dict[str, Path], compact_run: Path
) -> None:
    arguments = (folder / "tiny.toml", str(small_weights["small-compact"]), str(folder / "again"))
    made = stage_two.run(*arguments, init=compact_run.parent)
    assert not (folder / "again" / "reader.safetensors").exists()  # the other run's was used
    ours, theirs = (load_file(path / "model.safetensors") for path in (made, compact_run))
    gap = (ours["lip_retargeting.mlp.0.weight"] - theirs["lip_retargeting.mlp.0.weight"]).abs().max()
    assert 0 < gap < 0.02


def test_gradients_reach_only_the_module(folder: Path, compact_run: Path) -> None:
    config = dataclasses.replace(load_config(folder / "tiny.toml"), output=str(compact_run.parent))
    run = stage_two.StageTwo(config, str(compact_run), folder, None)
    module = run.networks.networks.lip_retargeting
    assert module is not None
    module.requires_grad_(True)
    sampler = SourceSampler(run.corpus, None, DriveMix(), 2)
    example = sampler(np.random.default_rng(0))
    batch = {name: torch.from_numpy(np.array(value))[None] for name, value in example.items()}
    regressor = OpeningRegressor().requires_grad_(False)
    terms = RetargetingLosses("lips", module, run.networks, regressor, requests=2)(batch)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    others = [getattr(run.networks.networks, name) for name in FROZEN]
    assert all(p.grad is None for network in others for p in network.parameters())


def test_a_key_is_read_under_its_former_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.toml"
    path.write_text(CONFIG.replace("closed_form_steps", "imitation"))
    config = load_config(path)
    assert (config.eyes.closed_form_steps, config.lips.closed_form_steps) == (3, 3)
    assert "imitation is called closed_form_steps now" in capsys.readouterr().err


def test_impossible_requests_are_refused(
    folder: Path, small_weights: dict[str, Path], tmp_path: Path
) -> None:
    name = str(small_weights["small-compact"])
    with pytest.raises(UserError, match="no trained stitching"):
        stage_two.run(folder / "tiny.toml", name, str(tmp_path / "nothing"), part="export")
    for old, new, message in (
        ("requests = 2", "requests = 0", "eyes.requests"),
        ("bank_frames = 4", "bank_frames = 1", "bank_frames"),
        ("size = 64", "size = 65", "stitching.flow.size"),
        ("drives = 2", "drivers = 2", "drivers"),
    ):
        path = tmp_path / "wrong.toml"
        path.write_text((CONFIG + FLOW).replace(old, new, 1))
        with pytest.raises(UserError, match=message):
            load_config(path)
    with pytest.raises(UserError, match="only compact weights expose their flow"):
        base = str(small_weights["small-base"])
        stage_two.run(folder / "tiny.toml", base, str(tmp_path / "base"), part="stitching")
    with pytest.raises(UserError, match="no trained eyes"):
        empty = tmp_path / "empty"
        empty.mkdir()
        stage_two.run(folder / "tiny.toml", name, str(tmp_path / "out"), part="eyes", init=empty)
