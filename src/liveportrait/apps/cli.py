"""The command line. Errors that a user can act on are one line on standard error, with exit status 2."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Union, get_args

import tyro
from tyro.conf import subcommand

from liveportrait.apps.animate import Animate, AnimateAsPublished, Edit, MakeTemplate
from liveportrait.apps.app import App
from liveportrait.apps.batch import Batch
from liveportrait.apps.demo import Demo
from liveportrait.apps.evaluate import Evaluate
from liveportrait.apps.live.command import LivePortrait
from liveportrait.apps.serve import Serve
from liveportrait.apps.speak import Speak
from liveportrait.apps.terminal import Stopped, lenient_streams, stopping
from liveportrait.apps.train import Prepare, Train
from liveportrait.apps.verify import Verify
from liveportrait.apps.web.command import Web
from liveportrait.apps.weights import Export, Weights
from liveportrait.errors import user_error
from liveportrait.folders import remove_unfinished

Command = (
    Annotated[Animate, subcommand("animate")]
    | Annotated[Speak, subcommand("speak")]
    | Annotated[MakeTemplate, subcommand("template")]
    | Annotated[Edit, subcommand("edit")]
    | Annotated[Batch, subcommand("batch")]
    | Annotated[Demo, subcommand("demo")]
    | Annotated[App, subcommand("app")]
    | Annotated[Serve, subcommand("serve")]
    | Annotated[LivePortrait, subcommand("live")]
    | Annotated[Web, subcommand("web")]
    | Annotated[Verify, subcommand("verify")]
    | Annotated[Weights, subcommand("weights")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Prepare, subcommand("prepare")]
    | Annotated[Train, subcommand("train")]
)


def main(args: Sequence[str] | None = None) -> int:
    """Run a command line (by default, the process's own) and return its exit status.

    0 is success; 1 a batch with failed jobs, or a file that is not marked; 2 a mistake in the input; 128 plus a
    signal's number an interruption (130 is Ctrl-C). After the last two, no outputs exist. Raises SystemExit for --help
    (0) and for a line that cannot be parsed (2).
    """
    # PyTorch's threads wait for each other at the end of every layer. By default GNU OpenMP lets them spin, which takes
    # cores from the decoder and the encoder, and on a busy machine makes a frame take fifty times as long
    # (docs/notes/speed-log.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    args = list(sys.argv[1:] if args is None else args)
    with lenient_streams(), stopping() as stopper:
        try:
            if args == ["--version"]:
                from liveportrait.marking.statement import program_version

                print(f"liveportrait {program_version()}")
                return 0
            command: Command = tyro.cli(
                command_for(args),
                prog="liveportrait",
                description="Animate a portrait with the expression and head pose of a driving video."
                " `liveportrait --version` prints the version.",
                args=args,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
            command.run()
        except KeyboardInterrupt:
            stopper.stopped = stopper.stopped or Stopped(signal.SIGINT)
        except Exception as error:
            # Once stopped, any error is a consequence of that.
            if not stopper.stopped:
                expected = user_error(error)
                if expected is None:
                    raise
                print(f"liveportrait: {expected}", file=sys.stderr)
                return expected.status
        finally:
            remove_unfinished()  # an interruption may come just before a block's own clean-up
        if stopper.stopped:
            print(f"liveportrait: {stopper.stopped.reason}", file=sys.stderr)
            return stopper.stopped.status
    return 0


def command_for(args: Sequence[str]) -> Any:
    """The commands available to a line; with --as-published, `animate` has other defaults."""
    if not any(argument.replace("_", "-") == "--as-published" for argument in args):
        return Command
    animate, *others = get_args(Command)
    return Union[Annotated[AnimateAsPublished, *animate.__metadata__], *others]
