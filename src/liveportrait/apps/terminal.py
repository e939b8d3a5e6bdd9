"""How commands behave in a terminal: they end cleanly on signals, and survive output that cannot be printed."""

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

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # the last one exists only on Windows
GRACE_S = 1.7  # how long frames and files in progress may delay the end


class Stopped(KeyboardInterrupt):
    """A signal asked the program to end. Unwinds like Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    @property
    def reason(self) -> str:
        """The message for the user."""
        return "interrupted" if self.number == signal.SIGINT else f"stopped by {self._name}"

    @property
    def status(self) -> int:
        """The exit status by the shells' convention: 130 after Ctrl-C."""
        return 128 + self.number

    @property
    def _name(self) -> str:
        return signal.Signals(self.number).name


class Stopper:
    """The handler of these signals. The first one raises `Stopped`; a second one ends the process at once.

    Unfinished files are removed before either: a frame may take longer than the sender of the signal waits.
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
    """A block that handles the signals in `STOPPING`, unless they are ignored (nohup) or already handled."""
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
def exit_promptly_on_signal() -> Iterator[None]:
    """A block in which the process ends soon after a signal that a `Stopper` handles, however busy it is.

    Python runs a handler only when a call into a library returns, and loading a network may take seconds; a thread
    notices the signal at once. For the main thread only; does nothing on Windows, which lacks the pipes for it.
    """
    if os.name != "posix":
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    finished = threading.Event()
    thread = threading.Thread(target=_watch_signals, args=(reader, finished), name="signals", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        finished.set()
        os.close(writer)
        thread.join()
        os.close(reader)


def _watch_signals(reader: int, finished: threading.Event) -> None:
    """Read signal numbers until the pipe is closed."""
    while signals := os.read(reader, 1):
        if isinstance(signal.getsignal(signals[0]), Stopper):  # other handlers end in time
            remove_unfinished()
            if not finished.wait(GRACE_S):
                end_at_once(Stopped(signals[0]))


def end_at_once(stopped: Stopped) -> None:
    """End the process immediately; no unfinished file is left."""
    remove_unfinished()
    with suppress(OSError):
        os.write(2, f"liveportrait: {stopped.reason}\n".encode())
    os._exit(stopped.status)


class LenientStream:
    """A text stream that prints what it can: unencodable characters as escapes, nothing after an error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None  # the first one

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Print a text; returns its length."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError as error:
            plain = text.encode(error.encoding, "backslashreplace").decode(error.encoding)
            self.write(plain)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Print what is buffered."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        """Do nothing: the underlying stream is Python's own."""

    def _give_up(self, error: OSError) -> None:
        """Discard all further output, so that flushing the buffer at exit does not fail again."""
        self.error = self.error or error
        with suppress(OSError), open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())


@contextmanager
def lenient_streams() -> Iterator[None]:
    """A block in which a failure to print raises nothing; it is reported at the end, if still possible.

    A reader that has seen enough (`| head`) is not reported.
    """
    if sys.stdout is None or sys.stderr is None:  # closed from the start: Python then prints nothing
        yield
        return
    out, err = LenientStream(sys.stdout), LenientStream(sys.stderr)
    with redirect_stdout(cast(TextIO, out)), redirect_stderr(cast(TextIO, err)):
        try:
            yield
        finally:
            out.flush()
            if out.error and not isinstance(out.error, BrokenPipeError):
                print(f"liveportrait: cannot write to standard output: {out.error.strerror}", file=sys.stderr)
            err.flush()
