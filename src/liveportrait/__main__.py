"""The program: `liveportrait`, or `python -m liveportrait`."""

import os
import signal
import sys
from collections.abc import Sequence

from liveportrait.errors import NoMemory, UserError, user_error

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Bytes, of NumPy, SciPy and OpenCV with their threads' buffers.
ADDRESSES, ADDRESSES_A_CORE = 600 << 20, 150 << 20


def take_memory() -> None:
    """Where addresses are limited (`ulimit -v`), let OpenBLAS have its share first: it waits for ever for one.

    Raises UserError where there are too few.
    """
    if resource is None or (most := resource.getrlimit(resource.RLIMIT_AS)[0]) == resource.RLIM_INFINITY:
        return
    from liveportrait.processes import cores

    if most < (least := ADDRESSES + ADDRESSES_A_CORE * cores()):
        raise NoMemory(
            f"there is too little memory: ulimit -v allows {most >> 20} MB of addresses, and {least >> 20} MB or more"
            " are needed"
        )
    import cv2  # noqa: F401
    import scipy.linalg  # noqa: F401


def run(args: Sequence[str] | None = None) -> int:
    """Run a command line as `apps.cli.main` does, and see to it that a signal ends the process within two seconds."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:  # Ctrl-C while modules are read has no traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        take_memory()
        from liveportrait.apps.cli import main
        from liveportrait.apps.terminal import insisting
    except (UserError, ImportError, MemoryError) as error:
        if (told := user_error(error)) is None:
            raise
        print(f"liveportrait: {told}", file=sys.stderr)
        return told.status
    signal.signal(signal.SIGINT, usual)
    with insisting():
        status = main(args)
    if status > 128:  # nobody waits for threads of a run that was stopped
        sys.stdout.flush()
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(run())
