"""What a command owes the terminal: it ends cleanly when it is told to, and survives what it cannot print."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from types import FrameType
from typing import Any, TextIO, cast

from liveportrait.folders import remove_unfinished

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # the last one is of Windows


class Stopped(KeyboardInterrupt):
    """A signal asked the program to end. It unwinds as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    @property
    def reason(self) -> str:
        """What happened, for the user."""
        return "interrupted" if self.number == signal.SIGINT else f"stopped by {self._name}"

    @property
    def status(self) -> int:
        """The exit status, as shells count it: 130 after Ctrl-C."""
        return 128 + self.number

    @property
    def _name(self) -> str:
        return signal.Signals(self.number).name


class Stopper:
    """The handler of those signals. The first one raises `Stopped`; a second one ends the process where it is.

    Files that are being written are gone before either, since a frame may take longer than whoever stops us waits.
    """

    def __init__(self) -> None:
        self.stopped: Stopped | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        again, self.stopped = self.stopped, Stopped(number)
        remove_unfinished()
        if again:
            os._exit(again.status)
        raise self.stopped


@contextmanager
def stopping() -> Iterator[Stopper]:
    """A block in which signals that end programs are handled, unless they are ignored (nohup) or handled already."""
    stopper = Stopper()
    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in STOPPING if hasattr(signal, name)):
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    before[number] = signal.signal(number, stopper)
        yield stopper
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class LenientStream:
    """A text stream that prints what it can: letters that its encoding lacks as escapes, nothing once it fails."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None  # why it failed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Print a text. Returns its length."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError as error:
            plain = text.encode(error.encoding, "backslashreplace").decode(error.encoding)
            self.write(plain)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Print what is held back."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Nothing: the stream is Python's own, and others who kept this one may not close it."""

    def _give_up(self, error: OSError) -> None:
        """Send the rest nowhere: what the stream holds back would fail once more when Python ends."""
        self.error = self.error or error
        with suppress(OSError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())


@contextmanager
def lenient_streams() -> Iterator[None]:
    """A block in which a failure to print is no failure; at its end, it is told where that is still possible.

    A reader that has seen enough (`| head`) is no reason to speak.
    """
    if sys.stdout is None or sys.stderr is None:  # closed from the start: Python prints nothing then
        yield
        return
    out, err = LenientStream(sys.stdout), LenientStream(sys.stderr)
    with redirect_stdout(cast(TextIO, out)), redirect_stderr(cast(TextIO, err)):
        try:
            yield
        finally:
            out.flush()
            if out.error and not isinstance(out.error, BrokenPipeError):
                print(f"liveportrait: what was printed is lost: {out.error.strerror}", file=sys.stderr)
            err.flush()
