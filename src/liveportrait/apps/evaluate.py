"""`liveportrait evaluate`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from liveportrait.apps.progress import progress_bar
from liveportrait.choices import Precision
from liveportrait.errors import UserError

if TYPE_CHECKING:
    from liveportrait.evaluation.evaluate import Evaluation

Protocols = Literal["self", "cross", "control"]
PROTOCOLS: tuple[Protocols, ...] = ("self", "cross", "control")
LINES, TABLE, CLIPS = "metrics.jsonl", "table.md", "clips.json"


@dataclass(frozen=True)
class Evaluate:
    """Measure WEIGHTS on the held-out clips and pictures of DATA, beside two baselines."""

    weights: Annotated[Positional[str], arg(metavar="WEIGHTS")]
    """name of the weights (see `liveportrait weights list`), or a folder"""
    data: Annotated[Positional[tuple[str, ...]], arg(metavar="DATA")]
    """shards (.tar, or patterns such as 'shards/*.tar'), videos and photos; the latter are taken whole"""
    out: Annotated[Path | None, arg(aliases=["-o"], metavar="FOLDER")] = None
    """folder for metrics.jsonl, table.md, clips.json and the sheets; it is made if it is missing"""
    protocol: Literal["self", "cross", "control", "all"] = "all"
    """self- or cross-reenactment, control of eyes and lips, or all of them"""
    stride: int = 1
    """measure every so-many-th frame"""
    held_out_one_in: int = 12
    """of shards' identities, which are held out: those whose hash is a multiple of it, as in training"""
    all: bool = False
    """take every identity of the shards"""
    sheets: bool = False
    """also draw contact sheets into FOLDER"""
    seed: int = 0
    """of the pairing of sources and drivers"""
    tracker: bool = True
    """keypoints that are landmarks lie where the face was found, as in `animate`; --no-tracker: where M sees them"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps; auto is cuda where there is one"""
    precision: Precision = "fp32"
    """fp32, or bf16 (on a GPU also fp16) for the convolutions of the weights' networks"""
    threads: int | None = None
    """CPU threads for the networks; PyTorch's own choice by default"""
    overwrite: bool = False
    """replace the files in FOLDER if they exist"""

    def run(self) -> None:
        """Measure; print the table, and write the files."""
        outputs = self._check_outputs()
        from liveportrait import weights
        from liveportrait.animation.run import Run
        from liveportrait.engine import Engine, pick_device
        from liveportrait.evaluation import report
        from liveportrait.evaluation.context import EvalContext
        from liveportrait.evaluation.evaluate import Plan, evaluate
        from liveportrait.evaluation.inputs import open_items
        from liveportrait.face import default_analyzer
        from liveportrait.media import output_file, save_image

        protocols = PROTOCOLS if self.protocol == "all" else (self.protocol,)
        plan = Plan(protocols, self.stride, self.seed, with_tiles=self.sheets)
        engine = Engine(weights.load(self.weights, pick_device(self.device)), self.precision, self.threads)
        context = EvalContext.of(engine, default_analyzer(), self.tracker)
        run = Run(engine, context.analyzer, batch=8)
        items = open_items(self.data, run, None if self.all else self.held_out_one_in, _note)
        with progress_bar() as progress:
            found = evaluate(context, items, plan, progress)
        figures = report.figures(found)
        table = report.table(figures, Path(self.weights).name)
        print(table)
        if self.out is None:
            return
        lines = [json.dumps({"about": self._about(found)}), *(figure.line() for figure in figures)]
        clips = json.dumps(report.clip_figures(found), indent=1)
        for name, text in ((LINES, "\n".join(lines)), (TABLE, table), (CLIPS, clips)):
            with output_file(self.out / name, self.overwrite) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
        for name, sheet in report.sheets(found).items():
            save_image(self.out / f"{name}.png", sheet, self.overwrite)
        print("\n".join(f"wrote {path}" for path in outputs if path.exists()))

    def _check_outputs(self) -> list[Path]:
        """The files that may be written, before any work."""
        if self.out is None:
            if self.sheets:
                raise UserError("contact sheets need a folder: name one with -o")
            return []
        from liveportrait.media import check_output

        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {self.out}: {error.strerror}") from error
        names = [LINES, TABLE, CLIPS, *(f"{name}.png" for name in PROTOCOLS if self.sheets)]
        return [check_output(self.out / name, overwrite=self.overwrite) for name in names]

    def _about(self, found: Evaluation) -> dict[str, Any]:
        """What the figures depend on, to be written once."""
        import platform
        from importlib.metadata import version

        from liveportrait import weights
        from liveportrait.evaluation.inputs import BURST

        described = weights.describe(self.weights)
        return {
            "program": version("liveportrait"),
            "weights": self.weights,
            "sha256": described.sha256 or None,
            "variant": described.variant.name,
            "data": list(self.data),
            "held_out_one_in": None if self.all else self.held_out_one_in,
            "stride": self.stride,
            "burst": BURST,
            "seed": self.seed,
            "tracker": self.tracker,
            "precision": self.precision,
            "device": self.device,
            "clips": {name: len(found.of(name)) for name in found.protocols},
            "people_of_the_mean_identity": found.people,
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("torch", "numpy", "opencv-python-headless", "openvino")},
        }


def _note(sentence: str) -> None:
    print(f"note: {sentence}", file=sys.stderr)
