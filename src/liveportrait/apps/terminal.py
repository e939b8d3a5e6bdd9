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
GRACE_S = 1.7  # for which frames and files that are at work may hold up the end


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


@contextmanager
def insisting() -> Iterator[None]:
    """A block in which the process ends soon after a signal that a `Stopper` handles, however busy it is.

    Python handles a signal once the library returns that it is in, which may open a network for seconds. A thread
    hears of it at once. For the main thread of a program; on Windows, which has no pipes for it, it does nothing.
    """
    if os.name != "posix":
        yield
        return
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    over = threading.Event()
    thread = threading.Thread(target=_hear, args=(ear, over), name="signals", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        over.set()
        os.close(mouth)
        thread.join()
        os.close(ear)


def _hear(ear: int, over: threading.Event) -> None:
    """Read numbers of signals until the pipe is closed."""
    while heard := os.read(ear, 1):
        if isinstance(signal.getsignal(heard[0]), Stopper):  # whoever else handles it ends in time
            remove_unfinished()
            if not over.wait(GRACE_S):
                end_at_once(Stopped(heard[0]))


def end_at_once(stopped: Stopped) -> None:
    """End the process whatever it does; nothing unfinished is left."""
    remove_unfinished()
    with suppress(OSError):
        os.write(2, f"liveportrait: {stopped.reason}\n".encode())
    os._exit(stopped.status)


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
