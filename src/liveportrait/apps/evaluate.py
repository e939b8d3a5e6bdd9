"""`liveportrait evaluate`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from liveportrait.apps.progress import progress_bar
from liveportrait.choices import Precision
from liveportrait.errors import UserError


@dataclass(frozen=True)
class Evaluate:
    """Measure WEIGHTS on the held-out clips and pictures of DATA, alongside two baselines."""

    weights: Annotated[Positional[str], arg(metavar="WEIGHTS")]
    """name of the weights (see `liveportrait weights list`), or a folder"""
    data: Annotated[Positional[tuple[str, ...]], arg(metavar="DATA")]
    """shards (.tar, or patterns such as 'shards/*.tar'), videos and photos; videos and photos are used in full"""
    out: Annotated[Path | None, arg(aliases=["-o"], metavar="FOLDER")] = None
    """folder for metrics.jsonl, table.md, clips.json and the contact sheets; created if it does not exist"""
    protocol: Literal["self", "cross", "people", "control", "all", "speech"] = "all"
    """self: self-reenactment; cross: cross-reenactment; people: lively drivers on portraits of every kind;
    control: requested openings of eyes and lips; all: these four; speech: the bundled voice network on shards
    with sound, spoken by the photos in DATA"""
    stride: int = 1
    """measure every N-th frame"""
    held_out_one_in: int = 12
    """N: one in N of the shards' identities is held out, those whose hash is a multiple of N, as in training"""
    all: bool = False
    """use every identity in the shards"""
    sheets: bool = False
    """also write contact sheets to FOLDER"""
    seed: int = 0
    """random seed for pairing sources and drivers"""
    portraits: int = 4
    """people: number of portraits of each kind (photo, generated, stylized; for files, each folder is a kind);
    speech: number of clips spoken by each photo"""
    tracker: bool = True
    """take landmark keypoints from the face tracker, as `animate` does; --no-tracker takes them from M"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps; auto uses cuda if available"""
    precision: Precision = "fp32"
    """precision of the networks' convolutions: fp32, bf16, or fp16 on a GPU"""
    threads: int | None = None
    """CPU threads for the networks; chosen by PyTorch by default"""
    overwrite: bool = False
    """replace the files in FOLDER if they exist"""

    def run(self) -> None:
        """Measure, print the table, and write the files."""
        from liveportrait import weights
        from liveportrait.engine import Engine, pick_device
        from liveportrait.evaluation import report
        from liveportrait.evaluation.context import EvalContext
        from liveportrait.evaluation.evaluate import Plan, evaluate, evaluate_speech
        from liveportrait.evaluation.inputs import open_items
        from liveportrait.evaluation.protocols.speech import open_speech
        from liveportrait.evaluation.results import PICTURE_PROTOCOLS
        from liveportrait.face import default_analyzer

        if self.out is not None:
            report.prepare_folder(self.out, self.sheets, self.overwrite)
        elif self.sheets:
            raise UserError("contact sheets need a folder: name one with -o")
        protocols = PICTURE_PROTOCOLS if self.protocol == "all" else (self.protocol,)
        plan = Plan(protocols, self.stride, self.seed, self.portraits, with_tiles=self.sheets)
        engine = Engine(weights.load(self.weights, pick_device(self.device)), self.precision, self.threads)
        context = EvalContext.of(engine, default_analyzer(), self.tracker)
        held_out_one_in = None if self.all else self.held_out_one_in
        with progress_bar() as progress:
            if self.protocol == "speech":
                speech = open_speech(self.data, held_out_one_in)
                found = evaluate_speech(context, speech, plan, progress)
            else:
                items = open_items(self.data, context, held_out_one_in, _note)
                found = evaluate(context, items, plan, progress)
        print(report.table(report.figures(found), Path(self.weights).name))
        if self.out is None:
            return
        settings = report.Settings(
            weights=self.weights,
            data=self.data,
            held_out_one_in=held_out_one_in,
            stride=self.stride,
            seed=self.seed,
            portraits=self.portraits,
            tracker=self.tracker,
            precision=self.precision,
            device=self.device,
        )
        for path in report.write(self.out, found, settings, self.overwrite):
            print(f"wrote {path}")


def _note(sentence: str) -> None:
    print(f"note: {sentence}", file=sys.stderr)
