"""The program: `liveportrait`, or `python -m liveportrait`."""

import os
import signal
import sys
from collections.abc import Sequence

from liveportrait.errors import OutOfMemory, UserError, user_error

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Bytes of address space that NumPy, SciPy and OpenCV reserve, with their threads' buffers.
ADDRESS_SPACE, ADDRESS_SPACE_PER_CORE = 600 << 20, 150 << 20


def reserve_address_space() -> None:
    """Under a limit on address space (`ulimit -v`), let OpenBLAS reserve its share first: without it, it hangs.

    Raises UserError if the limit is too low.
    """
    if resource is None or (limit := resource.getrlimit(resource.RLIMIT_AS)[0]) == resource.RLIM_INFINITY:
        return
    from liveportrait.processes import cores

    if limit < (needed := ADDRESS_SPACE + ADDRESS_SPACE_PER_CORE * cores()):
        raise OutOfMemory(
            f"there is too little memory: ulimit -v allows {limit >> 20} MB of addresses, and at least"
            f" {needed >> 20} MB are needed"
        )
    import cv2  # noqa: F401
    import scipy.linalg  # noqa: F401


def run(args: Sequence[str] | None = None) -> int:
    """Run a command line as `apps.cli.main` does, and make sure that a signal ends the process within two seconds."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:  # no traceback for Ctrl-C during imports
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        reserve_address_space()
        from liveportrait.apps.cli import main
        from liveportrait.apps.terminal import exit_promptly_on_signal
    except (UserError, ImportError, MemoryError) as error:
        if (known := user_error(error)) is None:
            raise
        print(f"liveportrait: {known}", file=sys.stderr)
        return known.status
    signal.signal(signal.SIGINT, usual)
    with exit_promptly_on_signal():
        status = main(args)
    if status > 128:  # stopped by a signal: do not wait for its threads
        sys.stdout.flush()
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(run())
