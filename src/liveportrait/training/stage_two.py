"""Stage two (paper section 3.3): stitching, eye and lip retargeting for given weights.

    liveportrait train stage-two --config configs/stage-two-compact.toml --weights compact -o RUN

F, M, W and G stay as they are. A part that is stopped goes on from its last checkpoint when started again.
`--init RUN` starts from the modules and the reader of another run: after F, M, W or G changed a little, minutes are
enough. `--part export` writes RUN/weights: the given weights with the three modules.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from liveportrait import weights
from liveportrait.errors import UserError
from liveportrait.networks import Networks
from liveportrait.networks.retargeting import EyeRetargeting, LipRetargeting, Stitching
from liveportrait.networks.variants import Variant
from liveportrait.training.checkpoint import TrainingState
from liveportrait.training.corpus import Corpus
from liveportrait.training.frozen import FrozenNetworks
from liveportrait.training.imitation import imitate
from liveportrait.training.opening_reader import OpeningReader
from liveportrait.training.stage_one import corpora, samples_seen
from liveportrait.training.stage_two_check import control_error, shoulder_motion
from liveportrait.training.stage_two_config import StageTwoConfig, load_config
from liveportrait.training.stage_two_phase import Module, RetargetingLosses, StitchingLosses, train_module
from liveportrait.training.stage_two_reader import MeasuredFrames, rendered_frames, train_reader
from liveportrait.training.stage_two_sampling import MotionBank, SourceSampler, motion_bank

Part = Literal["all", "reader", "stitching", "eyes", "lips", "export"]
MODULES: tuple[Module, ...] = ("stitching", "eyes", "lips")
HELD_OUT_CLIPS = 24


def run(
    config_path: Path, weights_name: str = "compact", output: str | None = None, part: Part = "all",
    init: Path | None = None,
) -> Path:  # fmt: skip
    """Train, and return the folder with the weights (or, for one part alone, the run's folder).

    Raises UserError for a wrong configuration, missing shards, or an export before all modules are trained.
    """
    config = load_config(config_path)
    config = dataclasses.replace(config, output=output or config.output)
    if part == "export":
        return export(config, weights_name)
    torch.set_num_threads(config.threads)
    StageTwo(config, weights_name, config_path.parent, init).train(part)
    return export(config, weights_name) if part == "all" else Path(config.output)


class StageTwo:
    """The parts of one run, and what they share: frozen networks, corpora, motion banks."""

    def __init__(self, config: StageTwoConfig, weights_name: str, base: Path, init: Path | None) -> None:
        """`base`: folder that the shards' paths are relative to; `init`: a run to start from."""
        self.config, self.init = config, init
        self.folder, self.device = Path(config.output), torch.device(config.device)
        self.networks = FrozenNetworks(weights.load(weights_name), self.device, config.bf16)
        self.corpus, self.held_out = corpora(config, base)
        self.bank = self._bank(self.corpus, config.bank_clips)
        self.held_out_bank = self._bank(self.held_out, HELD_OUT_CLIPS)

    def train(self, part: Part) -> None:
        """One part, or all of them; the reader comes before eyes and lips."""
        if part in ("all", "stitching"):
            self.stitching()
        if part in ("all", "reader", "eyes", "lips"):
            reader = self.reader().eval().requires_grad_(False)
            for name in ("eyes", "lips"):
                if part in ("all", name):
                    self.retargeting(name, reader)

    def reader(self) -> OpeningReader:
        """The trained reader: of this run, of the run to start from, or trained now."""
        given = None if self.init is None else self.init / "reader.safetensors"
        if given is not None and given.exists() and not (self.folder / "reader.safetensors").exists():
            reader = OpeningReader().to(self.device)
            TrainingState({}, {}, {"reader": reader}).load(given)
            return reader

        def render() -> MeasuredFrames | None:
            count = self.config.reader.rendered
            return (
                rendered_frames(self.networks, self.corpus, self.bank, count, self.config.seed)
                if count
                else None
            )

        return train_reader(self.config, self.corpus, self.held_out, render)

    def stitching(self) -> nn.Module:
        """S."""
        module = self._start("stitching")
        settings = self.config.stitching
        return train_module(
            "stitching",
            module,
            self.config,
            SourceSampler(self.corpus, self.bank, settings.mix, settings.drives),
            StitchingLosses(module, self.networks, self.bank, self.config),
            lambda average: shoulder_motion(
                average, self.networks, self.held_out, self.held_out_bank, self.config.held_out_drives
            ),
        )

    def retargeting(self, name: Literal["eyes", "lips"], reader: OpeningReader) -> nn.Module:
        """R_eyes or R_lip."""
        module, settings = self._start(name), getattr(self.config, name)
        return train_module(
            name,
            module,
            self.config,
            SourceSampler(self.corpus, None, self.config.stitching.mix, settings.requests, settings.highest),
            RetargetingLosses(name, module, self.networks, reader, self.config),
            lambda average: control_error(
                name, average, self.networks, self.held_out, self.config.held_out_sources
            ),
        )

    def _bank(self, corpus: Corpus, clips: int) -> MotionBank:
        return motion_bank(self.networks, corpus, clips, self.config.bank_frames, self.config.seed)

    def _start(self, name: Module) -> nn.Module:
        """A module before its first step: of the run to start from, or (retargeting) after imitation, or untrained."""
        torch.manual_seed(self.config.seed)
        module = new_module(name, self.networks.variant).to(self.device)
        if (self.folder / f"{name}.safetensors").exists():
            return module  # its checkpoint is read when training goes on
        if self.init is not None:
            checkpoint = self.init / f"{name}.safetensors"
            if not checkpoint.exists():
                raise UserError(f"{self.init} holds no trained {name}: give a run of stage two that has one.")
            TrainingState({}, {}, {name: module}).load(checkpoint)
        elif name != "stitching":
            settings = getattr(self.config, name)
            imitate(module, self.bank, name, settings.imitation, settings.highest)
        return module


def new_module(name: Module, variant: Variant) -> nn.Module:
    """An untrained module of a variant."""
    sizes = variant.retargeting
    match name:
        case "stitching":
            return Stitching(sizes.stitching)
        case "eyes":
            return EyeRetargeting(sizes.eye)
        case "lips":
            return LipRetargeting(sizes.lip)


def export(config: StageTwoConfig, weights_name: str) -> Path:
    """Write the given weights with the three trained modules, `weights/` in the run's folder."""
    folder = Path(config.output)
    networks, described = weights.load(weights_name), weights.describe(weights_name)
    trained = {}
    for name in MODULES:
        checkpoint = folder / f"{name}.safetensors"
        if not checkpoint.exists():
            raise UserError(f"{folder} holds no trained {name}: run --part {name} first.")
        trained[name] = new_module(name, networks.variant)
        TrainingState({}, {}, {name: trained[name]}).load(checkpoint)
    dtype = torch.float16 if _fits_half(networks) else torch.float32
    networks.stitching, networks.eye_retargeting, networks.lip_retargeting = (
        trained[name] for name in MODULES
    )
    before = described.metadata
    training = {
        **before.training,
        "stage_two": {
            "config": dataclasses.asdict(config),
            "sources": {name: samples_seen(folder / f"{name}.safetensors") for name in MODULES},
        },
    }
    origin = f"{before.origin}, stitching and retargeting by stage two of this program"
    weights.save(networks, folder / "weights", weights.Metadata(origin, before.licence, training), dtype)
    return folder / "weights"


def _fits_half(networks: Networks) -> bool:
    """Whether F, M, W and G were stored in half precision: then storing them so again loses nothing."""
    tensors = (t for module in networks.modules().values() for t in module.state_dict().values())
    return all(torch.equal(t.half().float(), t) for t in tensors if t.is_floating_point() and t.ndim > 1)
