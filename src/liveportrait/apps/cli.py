"""The command line. Errors that a user can act on are one line on standard error and exit status 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro
from tyro.conf import subcommand

from liveportrait.apps.animate import Animate, Edit, MakeTemplate
from liveportrait.apps.demo import Demo
from liveportrait.apps.evaluate import Evaluate
from liveportrait.apps.train import Prepare, Train
from liveportrait.apps.weights import Export, Weights
from liveportrait.errors import UserError

Command = (
    Annotated[Animate, subcommand("animate")]
    | Annotated[MakeTemplate, subcommand("template")]
    | Annotated[Edit, subcommand("edit")]
    | Annotated[Demo, subcommand("demo")]
    | Annotated[Weights, subcommand("weights")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Prepare, subcommand("prepare")]
    | Annotated[Train, subcommand("train")]
)

USER_ERROR = 2
INTERRUPTED = 130


def main(args: Sequence[str] | None = None) -> int:
    """Run a command line (the process's own by default) and return its exit status.

    0 is success, 2 a mistake in the input, 130 an interruption; on either the outputs do not exist. Raises
    SystemExit for --help (0) and for a line that cannot be parsed (2).
    """
    # PyTorch's threads wait for one another at the end of every layer. GNU OpenMP lets them spin, which takes a core
    # from the decoder and the encoder, and on a busy machine makes a frame take fifty times as long
    # (docs/notes/speed-log.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        command = tyro.cli(
            Command,
            prog="liveportrait",
            description="Animate a portrait with the expression and head pose of a driving video.",
            args=args,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        command.run()
    except UserError as error:
        print(f"liveportrait: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("liveportrait: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0
