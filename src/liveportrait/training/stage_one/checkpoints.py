"""Networks out of the checkpoints of a run: the moving averages of each phase."""

from __future__ import annotations

from pathlib import Path

from liveportrait.networks import BASE, COMPACT, Networks, build
from liveportrait.networks.compact.motion import MotionExtractor
from liveportrait.training.checkpoint import TrainingState
from liveportrait.training.config import StageOneConfig
from liveportrait.training.stage_one.joint_model import joint_model
from liveportrait.training.stage_one.rendering_from_labels import Renderer

VARIANTS = {"base": BASE, "compact": COMPACT}


def trained_motion(config: StageOneConfig) -> MotionExtractor | None:
    """M of the warm start, or None before there is one."""
    path = Path(config.output) / "motion.safetensors"
    if not path.exists():
        return None
    network = build(COMPACT).motion
    assert isinstance(network, MotionExtractor)
    TrainingState({}, {}, {"motion": network}).load(path)
    return network.eval()


def trained_renderer(checkpoint: Path) -> Renderer:
    """F, W and G of a rendering phase."""
    renderer = Renderer()
    TrainingState({}, {}, {"render": renderer}).load(checkpoint)
    return renderer


def rendering_checkpoints(config: StageOneConfig) -> list[Path]:
    """Those of the rendering phases that have one, in order."""
    paths = [Path(config.output) / f"render-{number}.safetensors" for number in range(len(config.render))]
    return [path for path in paths if path.exists()]


def joint_checkpoint(config: StageOneConfig) -> Path | None:
    """That of the joint phase, or None where there is no such phase or it has not begun."""
    path = Path(config.output) / "joint.safetensors"
    return path if config.joint is not None and path.exists() else None


def trained_jointly(config: StageOneConfig, checkpoint: Path) -> Networks:
    """F, M, W and G of the joint phase."""
    model = joint_model(build(VARIANTS[config.variant]), from_scratch=not config.init)
    TrainingState({}, {}, {"generator": model}).load(checkpoint)
    return model.networks()


def samples_seen(checkpoint: Path) -> int:
    """How many samples a checkpoint has seen."""
    state = TrainingState({}, {}, {})
    state.load(checkpoint)
    return state.samples
