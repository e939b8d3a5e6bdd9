"""Stage two (paper section 3.3): stitching, eye and lip retargeting for given weights.

    liveportrait train stage-two --config configs/stage-two-compact.toml --weights compact -o RUN

F, M, W and G stay fixed. A stopped part continues from its last checkpoint when started again. `--init RUN` starts from
the modules and the opening regressor ("reader") of another run: if F, M, W or G have changed only a little, minutes of
training are enough. `--part export` writes RUN/weights: the given weights with the three modules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from liveportrait import weights
from liveportrait.errors import UserError
from liveportrait.networks import Networks
from liveportrait.networks.retargeting import EyeRetargeting, LipRetargeting, Stitching
from liveportrait.networks.variants import Variant
from liveportrait.training.checkpoint import load_average, samples_seen
from liveportrait.training.config import LossWeights, Schedule
from liveportrait.training.data.batches import batches
from liveportrait.training.data.corpora import open_corpora
from liveportrait.training.data.corpus import Corpus
from liveportrait.training.data.samplers import Sampler
from liveportrait.training.phase import Terms, network_phase, weighted
from liveportrait.training.stage_two.closed_form import RenderedOpenings, learn_closed_form, render_openings
from liveportrait.training.stage_two.config import FlowStart, StageTwoConfig, load_config
from liveportrait.training.stage_two.frozen_networks import FrozenNetworks
from liveportrait.training.stage_two.losses import (
    FlowLosses,
    RetargetingLosses,
    StitchingLosses,
    StitchingTask,
)
from liveportrait.training.stage_two.opening_regressor import OpeningRegressor, train_opening_regressor
from liveportrait.training.stage_two.samplers import (
    FlowSampler,
    MotionBank,
    SourceSampler,
    flow_sources,
    motion_bank,
)
from liveportrait.training.stage_two.validation import control_error, shoulder_motion

Part = Literal["all", "reader", "stitching", "eyes", "lips", "export"]
Module = Literal["stitching", "eyes", "lips"]
MODULES: tuple[Module, ...] = ("stitching", "eyes", "lips")
VALIDATE_EVERY = 200  # steps
HELD_OUT_CLIPS = 24
DIFFERENCE_GAIN = 2.5  # 63 differences of about 0.05 then add up to about 1


def run(
    config_path: Path, weights_name: str = "compact", output: str | None = None, part: Part = "all",
    init: Path | None = None,
) -> Path:  # fmt: skip
    """Train, and return the folder with the weights (or, for a single part, the run's folder).

    Raises `UserError` for a wrong configuration, missing shards, or an export before all modules are trained.
    """
    config = load_config(config_path)
    config = dataclasses.replace(config, output=output or config.output)
    if part == "export":
        return export(config, weights_name)
    torch.set_num_threads(config.threads)
    StageTwo(config, weights_name, config_path.parent, init).train(part)
    return export(config, weights_name) if part == "all" else Path(config.output)


class StageTwo:
    """The parts of a run, and what they share: frozen networks, corpora, motion banks."""

    def __init__(self, config: StageTwoConfig, weights_name: str, base: Path, init: Path | None) -> None:
        """The shards' paths are relative to `base`; `init` is a run to start from."""
        self.config, self.init = config, init
        self.folder, self.device = Path(config.output), torch.device(config.device)
        self.networks = FrozenNetworks(weights.load(weights_name), self.device, config.bf16)
        self.corpus, self.held_out, _ = open_corpora(config.data, base, self.folder / "corpus", config.seed)
        self.bank = self._bank(self.corpus, config.bank_clips)
        self.held_out_bank = self._bank(self.held_out, HELD_OUT_CLIPS)

    def train(self, part: Part) -> None:
        """Train one part, or all of them; eyes and lips need the opening regressor first."""
        if part in ("all", "stitching"):
            self.stitching()
        if part in ("all", "reader", "eyes", "lips"):
            regressor = self.opening_regressor().eval().requires_grad_(False)
            for name in ("eyes", "lips"):
                if part in ("all", name):
                    self.retargeting(name, regressor)

    def opening_regressor(self) -> OpeningRegressor:
        """The trained opening regressor, from this run, from the run to start from, or trained now."""
        given = None if self.init is None else self.init / "reader.safetensors"
        if given is not None and given.exists() and not (self.folder / "reader.safetensors").exists():
            return load_average(given, "reader", OpeningRegressor().to(self.device))
        return train_opening_regressor(self.config, self.corpus, self.held_out, self.rendered)

    def rendered(self) -> RenderedOpenings | None:
        """Rendered and measured pictures, kept in the run's folder; None if the configuration asks for none."""
        folder, count = self.folder / "rendered", self.config.reader.rendered
        if not count:
            return None
        if not (folder / "labels.npz").exists():
            render_openings(self.networks, self.corpus, self.bank, count, self.config.seed).save(folder)
        return RenderedOpenings.load(folder)

    def stitching(self) -> nn.Module:
        """Train S, first from W's flow alone if configured, then from pictures."""
        module, settings = self._start("stitching"), self.config.stitching
        task = StitchingTask(module, self.networks, self.bank, settings.drives)
        if settings.flow is not None and not (self.folder / "stitching.safetensors").exists():
            module.load_state_dict(self._from_flow(task, settings.flow).state_dict())
        return self._train(
            "stitching",
            module,
            settings.schedule,
            settings.weights,
            SourceSampler(self.corpus, self.bank, settings.mix, settings.drives),
            StitchingLosses(task),
            lambda average: shoulder_motion(
                average, self.networks, self.held_out, self.held_out_bank, self.config.held_out_drives
            ),
        )

    def _from_flow(self, task: StitchingTask, start: FlowStart) -> nn.Module:
        """Train S from W's flow alone, from that phase's checkpoint if there is one."""
        settings = self.config.stitching
        sources = flow_sources(self.networks, self.corpus, start.sources, start.size, self.config.seed)
        sampler = FlowSampler(len(sources.landmarks), self.bank, settings.mix, settings.drives)
        count = self.config.held_out_drives
        others = flow_sources(self.networks, self.held_out, count, start.size, self.config.seed)
        check = FlowSampler(len(others.landmarks), self.held_out_bank, settings.mix, settings.drives)
        drawn = next(batches(check, count, self.config.seed))

        @torch.no_grad()
        def validate(average: nn.Module) -> Mapping[str, float]:
            held_out = StitchingTask(average, self.networks, self.held_out_bank, settings.drives)
            return {name: float(value) for name, value in FlowLosses(held_out, others)(drawn).items()}

        return self._train(
            "stitching-flow",
            task.module,
            start.schedule,
            settings.weights,
            sampler,
            FlowLosses(task, sources),
            validate,
        )

    def retargeting(self, name: Literal["eyes", "lips"], regressor: OpeningRegressor) -> nn.Module:
        """Train R_eyes or R_lip."""
        module, settings = self._start(name), getattr(self.config, name)
        mix = self.config.stitching.mix
        return self._train(
            name,
            module,
            settings.schedule,
            settings.weights,
            SourceSampler(self.corpus, None, mix, settings.requests, settings.highest),
            RetargetingLosses(name, module, self.networks, regressor, settings.requests),
            lambda average: control_error(
                name, average, self.networks, self.held_out, self.config.held_out_sources
            ),
        )

    def _train(
        self,
        name: str,
        module: nn.Module,
        schedule: Schedule,
        weights: LossWeights,
        sampler: Sampler,
        terms: Callable[[dict[str, Tensor]], Terms],
        validate: Callable[[nn.Module], Mapping[str, float]],
    ) -> nn.Module:
        """Train one module to the end of a schedule, from its checkpoint if there is one; returns its moving average.

        `name` is the phase's; an example is a source with several drives or requests, and the schedule counts sources.
        """
        phase, average = network_phase(name, name, module, self.config, schedule)
        start = phase.state.step * schedule.accumulate
        drawn = batches(sampler, phase.rank_slice, self.config.seed + 1, start)
        phase.run(drawn, weighted(name, terms, weights), lambda: validate(average), VALIDATE_EVERY)
        return average

    def _bank(self, corpus: Corpus, clips: int) -> MotionBank:
        return motion_bank(self.networks, corpus, clips, self.config.bank_frames, self.config.seed)

    def _start(self, name: Module) -> nn.Module:
        """A module before its first step: from the run to start from, trained on the closed form, or untrained."""
        torch.manual_seed(self.config.seed)
        module = new_module(name, self.networks.variant).to(self.device)
        if (self.folder / f"{name}.safetensors").exists():
            return module  # its checkpoint is read when training continues
        if self.init is not None:
            checkpoint = self.init / f"{name}.safetensors"
            if not checkpoint.exists():
                raise UserError(f"{self.init} has no trained {name}: give a run of stage two that has one.")
            load_average(checkpoint, name, module)
        elif name != "stitching":
            settings, rendered = getattr(self.config, name), self.rendered()
            response = None if rendered is None else rendered.response(name)
            learn_closed_form(module, self.bank, name, settings.closed_form_steps, settings.highest, response)
        else:
            attend_to_differences(module)
        return module


@torch.no_grad()
def attend_to_differences(module: nn.Module) -> None:
    """Initialise half of the first layer's units to the difference between driving and source keypoints.

    Stitching depends on how far the head has moved: a few hundredths, in coordinates around 0.5. From the usual
    initialisation it takes hundreds of steps to learn that.
    """
    first = module.get_parameter("mlp.0.weight")
    half, each = first.shape[0] // 2, first.shape[1] // 2
    weight = DIFFERENCE_GAIN * torch.randn(half, each, device=first.device)
    first[:half, :each], first[:half, each:] = -weight, weight


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
    """Write the given weights with the three trained modules to `weights/` in the run's folder."""
    folder = Path(config.output)
    networks, described = weights.load(weights_name), weights.describe(weights_name)
    trained = {}
    for name in MODULES:
        checkpoint = folder / f"{name}.safetensors"
        if not checkpoint.exists():
            raise UserError(f"{folder} has no trained {name}: run --part {name} first.")
        trained[name] = load_average(checkpoint, name, new_module(name, networks.variant))
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
    """Whether F, M, W and G were stored in half precision, so that storing them so again loses nothing."""
    tensors = (t for module in networks.modules().values() for t in module.state_dict().values())
    return all(torch.equal(t.half().float(), t) for t in tensors if t.is_floating_point() and t.ndim > 1)
