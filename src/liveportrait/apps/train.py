"""`liveportrait train` (stage-one to animal-detector); `prepare`: its data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes, Positional, arg, subcommand

from liveportrait.apps.progress import progress_bar
from liveportrait.data.preparation.options import PrepareOptions


@dataclass(frozen=True)
class StageOne:
    """Train F, M, W and G from a configuration file. Run it again to resume from the last checkpoint."""

    config: Annotated[Path, arg(metavar="FILE")]
    """configuration file"""
    part: Literal["all", "motion", "render", "joint", "export"] = "all"
    """run only this part of the stage"""
    output: Path | None = None
    """folder of the run; by default the configuration's"""

    def run(self) -> None:
        """Train to the configuration's end."""
        from liveportrait.media import check_input

        config = check_input(self.config)
        from liveportrait.training.stage_one import run as stage_one  # slow to import

        stage_one.run(config, self.part, None if self.output is None else str(self.output))


@dataclass(frozen=True)
class StageTwo:
    """Train stitching and eye and lip retargeting for existing weights. Run it again to resume from the last
    checkpoint."""

    config: Annotated[Path, arg(metavar="FILE")]
    """configuration file"""
    weights: Annotated[str, arg(metavar="NAME")] = "compact"
    """weights to add the three modules to: a name or a folder"""
    output: Annotated[Path | None, arg(aliases=["-o"], metavar="RUN")] = None
    """folder of the run; by default the configuration's"""
    part: Literal["all", "reader", "stitching", "eyes", "lips", "export"] = "all"
    """run only this part of the stage"""
    init: Annotated[Path | None, arg(metavar="RUN")] = None
    """another run whose modules to start from: a few minutes suffice after a small change of F, M, W or G"""

    def run(self) -> None:
        """Train to the configuration's end, and write RUN/weights."""
        from liveportrait.media import check_input

        config = check_input(self.config)
        from liveportrait.training.stage_two import run as stage_two  # slow to import

        output = None if self.output is None else str(self.output)
        stage_two.run(config, self.weights, output, self.part, self.init)


@dataclass(frozen=True)
class Expression:
    """Train the network that adapts expressions to the source's face, for existing weights: minutes on one core."""

    config: Annotated[Path, arg(metavar="FILE")]
    """configuration file"""
    weights: Annotated[str, arg(metavar="NAME")] = "compact"
    """weights to add the network to: a name or a folder"""
    output: Annotated[Path | None, arg(aliases=["-o"], metavar="RUN")] = None
    """folder of the run; by default the configuration's"""

    def run(self) -> None:
        """Train to the configuration's end, and write RUN/weights."""
        from liveportrait.media import check_input

        config = check_input(self.config)
        from liveportrait.training import expression  # slow to import

        expression.run(config, self.weights, None if self.output is None else str(self.output))


@dataclass(frozen=True)
class Painter:
    """Train the network that repaints mouths, for existing weights. Run it again to resume where it stopped."""

    config: Annotated[Path, arg(metavar="FILE")]
    """configuration file"""
    weights: Annotated[str, arg(metavar="NAME")] = "compact"
    """weights to add the network to: a name or a folder"""
    output: Annotated[Path | None, arg(aliases=["-o"], metavar="RUN")] = None
    """folder of the run; by default the configuration's"""
    part: Literal["all", "pairs", "train", "export"] = "all"
    """run only this part of the work; train may start while another process renders pairs"""
    share: tuple[int, int] = (0, 1)
    """which share of the pairs to render: this process's number, from 0, and the number of processes"""

    def run(self) -> None:
        """Render pairs, train on them, and write RUN/weights."""
        from liveportrait.media import check_input

        config = check_input(self.config)
        from liveportrait.training.painter import run as painter  # slow to import

        output = None if self.output is None else str(self.output)
        painter.run(config, self.weights, output, self.part, self.share)


@dataclass(frozen=True)
class Speech:
    """Train the network that turns a voice into motion, and its sync scorer. Run it again to resume where it
    stopped."""

    config: Annotated[Path, arg(metavar="FILE")]
    """configuration file"""
    output: Annotated[Path | None, arg(aliases=["-o"], metavar="RUN")] = None
    """folder of the run; by default the configuration's"""

    def run(self) -> None:
        """Train to the configuration's end, and write RUN/voice.safetensors and its figures."""
        from liveportrait.media import check_input

        config = check_input(self.config)
        from liveportrait.training.speech import run as speech  # slow to import

        speech(config, None if self.output is None else str(self.output))


@dataclass(frozen=True)
class FineTune:
    """Fine-tune weights to one person, a style or animals, in minutes, and measure them before and after."""

    data: Annotated[tuple[Path, ...], arg(metavar="SHARD...")]
    """shards; for animals, unlabelled pictures are used as well as labelled ones"""
    output: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")]
    """folder of weights to create"""
    to: Literal["person", "style", "animals"]
    """what the shards show"""
    weights: Annotated[str, arg(metavar="NAME")] = "compact"
    """weights to start from: a name or a folder"""
    minutes: float = 10.0
    """how long to train, minutes"""
    samples: int | None = None
    """how many samples to train on, instead of a time"""
    size: int | None = None
    """side of the pictures that F, W and G train on, px (128 for compact weights); M always uses its own size"""
    device: str = "auto"
    """cpu, cuda, or auto"""
    seed: int = 0
    """random seed"""

    def run(self) -> None:
        """Fine-tune, and print the figures before and after."""
        from liveportrait.media import check_input

        shards = [check_input(path) for path in self.data]
        from liveportrait.training.fine_tune import run as fine_tune  # slow to import

        options = fine_tune.Options(self.to, self.minutes, self.samples, self.size, self.device, self.seed)
        report = fine_tune.run(self.weights, shards, self.output, options)
        print(report.table())


@dataclass(frozen=True)
class AnimalDetector:
    """Train the network that finds the faces of cats and dogs, from crops with landmarks set by hand."""

    data: Annotated[tuple[Path, ...], arg(metavar="SHARD...")]
    """shards with the pictures of animals that `training/animals/landmarks.json` has landmarks for"""
    backgrounds: Annotated[tuple[Path, ...], arg(metavar="SHARD...")]
    """shards with pictures of people: backgrounds for the animals, and negatives"""
    output: Annotated[Path, arg(aliases=["-o"], metavar="FILE")]
    """the weights to write (.safetensors)"""
    views: int = 3000
    """number of training pictures to generate"""
    epochs: int = 12
    """how many times each is used"""
    seed: int = 0
    """random seed"""

    def run(self) -> None:
        """Train, and print the figures on held-out animals and people."""
        from liveportrait.media import check_input, check_output

        output = check_output(self.output, (".safetensors",))
        shards, others = ([check_input(path) for path in paths] for paths in (self.data, self.backgrounds))
        from liveportrait.training.animals import train as animal_detector
        from liveportrait.training.animals import validation as animal_measure  # slow to import

        options = animal_detector.DetectorOptions(self.views, self.epochs, seed=self.seed)
        animal_detector.train(shards, others, output, options)
        print(animal_measure.measure(output, shards, others, self.seed).table())


@dataclass(frozen=True)
class Train:
    """Train networks from shards of videos and pictures."""

    stage: OmitSubcommandPrefixes[
        Annotated[StageOne, subcommand("stage-one")]
        | Annotated[StageTwo, subcommand("stage-two")]
        | Annotated[Expression, subcommand("expression")]
        | Annotated[Painter, subcommand("painter")]
        | Annotated[Speech, subcommand("speech")]
        | Annotated[FineTune, subcommand("fine-tune")]
        | Annotated[AnimalDetector, subcommand("animal-detector")]
    ]

    def run(self) -> None:
        """Run the stage."""
        self.stage.run()


@dataclass(frozen=True)
class Prepare:
    """Make training shards from raw videos and pictures. Run it again to resume where it stopped."""

    inputs: Annotated[Positional[tuple[Path, ...]], arg(metavar="INPUT")]
    """videos, pictures, folders of them, or .txt files that list them, one per line"""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")]
    """folder for shards, statistics, report and contact sheet: new, empty, or from an interrupted run"""
    workers: int = 1
    """number of processes, each using one core"""
    ray: Annotated[str | None, arg(metavar="ADDRESS")] = None
    """spread the work over the Ray cluster at this address (auto finds one, local starts one here)"""
    choice: OmitArgPrefixes[PrepareOptions] = field(default_factory=PrepareOptions)

    def run(self) -> None:
        """Prepare, and print what was kept and what was dropped."""
        from liveportrait.data.preparation.run import prepare  # slow to import

        with progress_bar() as progress:
            prepared = prepare(self.inputs, self.out, self.choice, self.workers, self.ray, progress)
        print(f"wrote {self.out}")
        print(prepared.summary())
