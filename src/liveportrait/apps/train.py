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
    """F, M, W and G, from a configuration file; started again, go on from the last checkpoint."""

    config: Annotated[Path, arg(metavar="FILE")]
    """configuration file"""
    part: Literal["all", "motion", "render", "joint", "export"] = "all"
    """a part of the stage alone"""
    output: Path | None = None
    """folder of the run; the configuration's by default"""

    def run(self) -> None:
        """Train to the configuration's end."""
        from liveportrait.media import check_input

        config = check_input(self.config)
        from liveportrait.training.stage_one import run as stage_one  # slow to import

        stage_one.run(config, self.part, None if self.output is None else str(self.output))


@dataclass(frozen=True)
class StageTwo:
    """Stitching, eye and lip retargeting for given weights; started again, go on from the last checkpoint."""

    config: Annotated[Path, arg(metavar="FILE")]
    """configuration file"""
    weights: Annotated[str, arg(metavar="NAME")] = "compact"
    """weights that get the three modules: a name or a folder"""
    output: Annotated[Path | None, arg(aliases=["-o"], metavar="RUN")] = None
    """folder of the run; the configuration's by default"""
    part: Literal["all", "reader", "stitching", "eyes", "lips", "export"] = "all"
    """a part of the stage alone"""
    init: Annotated[Path | None, arg(metavar="RUN")] = None
    """another run whose modules to start from: minutes are enough after F, M, W or G changed a little"""

    def run(self) -> None:
        """Train to the configuration's end, and write RUN/weights."""
        from liveportrait.media import check_input

        config = check_input(self.config)
        from liveportrait.training.stage_two import run as stage_two  # slow to import

        output = None if self.output is None else str(self.output)
        stage_two.run(config, self.weights, output, self.part, self.init)


@dataclass(frozen=True)
class Expression:
    """The network that makes an expression the source's own, for given weights: minutes of one core."""

    config: Annotated[Path, arg(metavar="FILE")]
    """configuration file"""
    weights: Annotated[str, arg(metavar="NAME")] = "compact"
    """weights that get the network: a name or a folder"""
    output: Annotated[Path | None, arg(aliases=["-o"], metavar="RUN")] = None
    """folder of the run; the configuration's by default"""

    def run(self) -> None:
        """Train to the configuration's end, and write RUN/weights."""
        from liveportrait.media import check_input

        config = check_input(self.config)
        from liveportrait.training import expression  # slow to import

        expression.run(config, self.weights, None if self.output is None else str(self.output))


@dataclass(frozen=True)
class Painter:
    """The network that paints mouths again, for given weights; started again, goes on where it was."""

    config: Annotated[Path, arg(metavar="FILE")]
    """configuration file"""
    weights: Annotated[str, arg(metavar="NAME")] = "compact"
    """weights that get the network: a name or a folder"""
    output: Annotated[Path | None, arg(aliases=["-o"], metavar="RUN")] = None
    """folder of the run; the configuration's by default"""
    part: Literal["all", "pairs", "train", "export"] = "all"
    """a part of the work alone; train may begin while another process renders pairs"""
    share: tuple[int, int] = (0, 1)
    """which share of the pairs to render: the number of this process, from 0, and how many there are"""

    def run(self) -> None:
        """Render pairs, train on them, and write RUN/weights."""
        from liveportrait.media import check_input

        config = check_input(self.config)
        from liveportrait.training.painter import run as painter  # slow to import

        output = None if self.output is None else str(self.output)
        painter.run(config, self.weights, output, self.part, self.share)


@dataclass(frozen=True)
class Speech:
    """The network that a voice moves a face by, and its sync scorer; started again, goes on where it was."""

    config: Annotated[Path, arg(metavar="FILE")]
    """configuration file"""
    output: Annotated[Path | None, arg(aliases=["-o"], metavar="RUN")] = None
    """folder of the run; the configuration's by default"""

    def run(self) -> None:
        """Train to the configuration's end, and write RUN/voice.safetensors and its figures."""
        from liveportrait.media import check_input

        config = check_input(self.config)
        from liveportrait.training.speech import run as speech  # slow to import

        speech(config, None if self.output is None else str(self.output))


@dataclass(frozen=True)
class FineTune:
    """Given weights to one person, to a style or to animals, in minutes; measured before and after."""

    data: Annotated[tuple[Path, ...], arg(metavar="SHARD...")]
    """shards; for animals, pictures without labels among or beside labelled ones"""
    output: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")]
    """folder of weights to make"""
    to: Literal["person", "style", "animals"]
    """what the shards show"""
    weights: Annotated[str, arg(metavar="NAME")] = "compact"
    """weights to start from: a name or a folder"""
    minutes: float = 10.0
    """how long to train"""
    samples: int | None = None
    """how many samples to see, in place of a time"""
    size: int | None = None
    """side of the pictures that F, W and G see, px (128 for compact weights); M always sees its own size"""
    device: str = "auto"
    """cpu, cuda, or auto"""
    seed: int = 0
    """of all random numbers"""

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
    """The network that finds the faces of cats and dogs, from crops with landmarks put there by hand."""

    data: Annotated[tuple[Path, ...], arg(metavar="SHARD...")]
    """shards with pictures of animals, those that `training/animals/landmarks.json` has landmarks of"""
    backgrounds: Annotated[tuple[Path, ...], arg(metavar="SHARD...")]
    """shards with pictures of people: what animals are laid into, and what is no animal"""
    output: Annotated[Path, arg(aliases=["-o"], metavar="FILE")]
    """the weights to write (.safetensors)"""
    views: int = 3000
    """pictures to make"""
    epochs: int = 12
    """how often each is seen"""
    seed: int = 0
    """of all random numbers"""

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
        """Run the chosen stage."""
        self.stage.run()


@dataclass(frozen=True)
class Prepare:
    """Make training shards of raw videos and pictures. Interrupted, start it again: it goes on where it was."""

    inputs: Annotated[Positional[tuple[Path, ...]], arg(metavar="INPUT")]
    """videos, pictures, folders of them, or .txt files that list them, one a line"""
    out: Annotated[Path, arg(aliases=["-o"], metavar="FOLDER")]
    """folder for shards, statistics, report and contact sheet: new, empty, or of an interrupted run"""
    workers: int = 1
    """processes; each uses one core"""
    ray: Annotated[str | None, arg(metavar="ADDRESS")] = None
    """spread the work over the Ray cluster at this address (auto finds it, local starts one here)"""
    choice: OmitArgPrefixes[PrepareOptions] = field(default_factory=PrepareOptions)

    def run(self) -> None:
        """Prepare, and print what was kept and what was dropped."""
        from liveportrait.data.preparation.run import prepare  # slow to import

        with progress_bar() as progress:
            prepared = prepare(self.inputs, self.out, self.choice, self.workers, self.ray, progress)
        print(f"wrote {self.out}")
        print(prepared.summary())
