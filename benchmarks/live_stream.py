"""The live loop: rate, latency and time per stage, with and without a browser.

    python benchmarks/live_stream.py                        # the loop alone, a voice, the stream, the page
    python benchmarks/live_stream.py loop stream --seconds 20 --threads 2
    python benchmarks/live_stream.py page --write figures.jsonl

The camera is the tests' video of scikit-image's astronaut at 30 frames/s, driving her own photo. `loop` gives a
portrait in this process the newest of these frames whenever it has room for another. `voice` speaks a sound fed in real
time in pieces of 20 ms: its latency is from a sample's arrival until it can be played, its picture rendered, and
`shown` is the share of the due pictures that were shown. `stream` and `page` run `liveportrait live` as users do and
measure it from outside: by a WebSocket client that sends every frame, or in Chromium. Latency is from sending a frame
(page: capturing it) to its picture; `cpu_ms` is the server's CPU time per frame over all threads, for comparisons on a
busy machine.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from measuring import Figure, machine, table, write

from liveportrait import Animator
from liveportrait.animation.session import Session
from liveportrait.media.sound.speech import SPEECH_RATE
from liveportrait.types import Image

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from camera_film import camera_frames, write_y4m
from speech_samples import syllables

RATE = 30  # frames/s of the camera
PIECE = SPEECH_RATE // 50  # samples that arrive together
CASES = ("loop", "voice", "stream", "page")
COLUMNS = ("case", "frames_per_s", "shown", "p50_ms", "p95_ms", "cpu_ms", "stages_ms", "load")


def loop(options: argparse.Namespace) -> Figure:
    """The portrait called frame by frame: an upper bound on a stream's rate."""
    from skimage.data import astronaut

    from liveportrait.apps.live.follower import Follower

    portrait = _animator(options).open(astronaut())
    follower = Follower(portrait)
    frames = camera_frames()
    for frame in frames[:3]:
        follower(frame)
    stages: dict[str, float] = {}
    coming: deque[tuple[Future[Image], float]] = deque()
    times, begun, begin, cpu = list[float](), 0, time.perf_counter(), time.process_time()
    while (now := time.perf_counter() - begin) < options.seconds:
        if now * RATE >= begun and len(coming) < follower.at_once:
            coming.append((follower.begin(frames[int(now * RATE) % len(frames)]), now))
            begun = int(now * RATE) + 1
        if coming and wait((coming[0][0],), 0.002).done:
            made, sent = coming.popleft()
            made.result()
            follower.measure()
            times.append(time.perf_counter() - begin - sent)
            for name, spent in follower.stages.items():
                stages[name] = stages.get(name, 0.0) + spent.cpu
    elapsed, spent_cpu = time.perf_counter() - begin, time.process_time() - cpu
    per_frame = {name: 1000 * spent / len(times) for name, spent in stages.items()}
    return _figure("loop", len(times) / elapsed, times, spent_cpu / len(times), per_frame)


def voice(options: argparse.Namespace) -> Figure:
    """A portrait that speaks a sound arriving in real time."""
    from skimage.data import astronaut

    from liveportrait import DriveOptions

    portrait = _animator(options).open(astronaut())
    session = portrait.session()
    sound = syllables(options.seconds + 5)
    ended = threading.Event()
    with portrait.live_with(session, DriveOptions(), 25.0) as live, live.voice() as spoken:
        for _ in range(8):
            spoken.frame()
        warm, begin, cpu = _busy(session), time.perf_counter(), time.process_time()

        def speak() -> None:
            for first in range(0, len(sound), PIECE):
                if ended.wait(max(0.0, begin + (first + PIECE) / SPEECH_RATE - time.perf_counter())):
                    return
                spoken.feed(sound[first : first + PIECE])

        speaker = threading.Thread(target=speak)
        speaker.start()
        latencies, said = [], 0
        for _ in spoken.frames():
            now, cut = time.perf_counter() - begin, said
            said = spoken.said
            if said > cut:
                latencies.append(now - cut / SPEECH_RATE)
            if now > options.seconds and latencies:
                break
        elapsed, cpu = time.perf_counter() - begin, time.process_time() - cpu
        ended.set()
        speaker.join()
    count = len(latencies)
    stages = {name: 1000 * (spent - warm.get(name, 0.0)) / count for name, spent in _busy(session).items()}
    figure = _figure("voice", count / elapsed, latencies, cpu / count, stages)
    return figure | {"shown": round(count / elapsed / spoken.fps, 3)}


def _animator(options: argparse.Namespace) -> Animator:
    return Animator.load(
        "compact", precision=options.precision, threads=options.threads, backend=options.backend
    )


def _busy(session: Session) -> dict[str, float]:
    return {name: spent.cpu for name, spent in session.clock.profile(0).stages.items()}


def stream(options: argparse.Namespace) -> Figure:
    """A client that sends every frame of the camera and receives the pictures."""
    from websockets.sync.client import connect

    from liveportrait.apps.live.frames import encode_frame, pack, unpack

    frames = [encode_frame(frame) for frame in camera_frames()]
    sent: dict[object, float] = {}
    seen = 0
    ended = threading.Event()
    with (
        _command(options) as (address, pid),
        connect(f"ws{address.removeprefix('http')}/v1/live/stream", max_size=None) as socket,
    ):

        def send() -> None:
            number = 0
            while not ended.wait(1 / RATE):
                sent[number] = time.perf_counter()
                socket.send(pack({"frame": number, "seen": seen}, frames[number % len(frames)]))
                number += 1

        sender = threading.Thread(target=send)
        sender.start()
        latencies, stages, begin, cpu = [], dict[str, float](), 0.0, 0.0
        try:
            while not begin or time.perf_counter() - begin < options.seconds:
                message = socket.recv()
                if isinstance(message, str):
                    continue
                header, _ = unpack(message)
                seen = header["reply"]  # type: ignore[assignment]
                if not header["started"] or seen < 5:
                    continue  # warming up
                if not begin:
                    begin, cpu = time.perf_counter(), _cpu_seconds(pid)
                    continue
                latencies.append(time.perf_counter() - sent[header["frame"]])
                for name, spent in header["stages"].items():  # type: ignore[attr-defined]
                    stages[name] = stages.get(name, 0.0) + spent
            elapsed, cpu = time.perf_counter() - begin, _cpu_seconds(pid) - cpu
        finally:
            ended.set()
            sender.join()
    count = len(latencies)
    return _figure(
        "stream", count / elapsed, latencies, cpu / count, {k: v / count for k, v in stages.items()}
    )


def page(options: argparse.Namespace) -> Figure:
    """The live page in Chromium, with latencies as the page itself shows them."""
    from playwright.sync_api import sync_playwright

    with (
        tempfile.TemporaryDirectory() as folder,
        _command(options) as (address, pid),
        sync_playwright() as play,
    ):
        film = write_y4m(Path(folder) / "film.y4m", camera_frames(), RATE)
        browser = play.chromium.launch(
            executable_path=options.chromium,
            args=[
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-video-capture={film}",
                "--disable-gpu",
            ],
        )
        visited = browser.new_page()
        visited.goto(f"{address}/live")
        visited.get_by_role("button", name="Start the camera").click(timeout=60_000)
        counted = "() => +document.body.dataset.pictures"
        visited.wait_for_function("() => +document.body.dataset.pictures > 5", timeout=60_000)
        before, begin, cpu = visited.evaluate(counted), time.perf_counter(), _cpu_seconds(pid)
        time.sleep(options.seconds)
        pictures = visited.evaluate(counted) - before
        elapsed, cpu = time.perf_counter() - begin, _cpu_seconds(pid) - cpu
        shown = {name: float(visited.locator(f"#{name}").inner_text()) for name in ("latency", "slowest")}
        names = visited.locator("#stages th").all_inner_texts()
        spent = map(float, visited.locator("#stages td:nth-child(2)").all_inner_texts())
        stages = dict(zip(names, spent, strict=True))
        browser.close()
    figure = _figure("page", pictures / elapsed, [0.0], cpu / max(pictures, 1), stages)
    return figure | {"p50_ms": shown["latency"], "p95_ms": shown["slowest"]}


def _figure(case: str, rate: float, latencies: list[float], cpu: float, stages: dict[str, float]) -> Figure:
    middle, slow = (1000 * float(np.percentile(latencies, part)) for part in (50, 95))
    return {
        "case": case,
        "frames_per_s": round(rate, 2),
        "p50_ms": round(middle, 1),
        "p95_ms": round(slow, 1),
        "cpu_ms": round(1000 * cpu, 1),
        "stages_ms": {name: round(spent, 1) for name, spent in stages.items() if spent >= 0.05},
        **machine(torch.device("cpu")),
    }


@contextmanager
def _command(options: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """`liveportrait live` while it runs: its address and process id."""
    line = [sys.executable, "-m", "liveportrait", "live", "--no-open"]
    line += ["--precision", options.precision, "--backend", options.backend]
    if options.threads:
        line += ["--threads", str(options.threads)]
    ran = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    try:
        yield _address(ran.stdout), ran.pid
    finally:
        ran.terminate()
        ran.wait(timeout=30)


def _address(lines: IO[str] | None) -> str:
    assert lines
    for text in lines:
        if found := re.search(r"live page is (\S+)/live", text):
            return found[1]
    raise RuntimeError("liveportrait live did not start")


def _cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, on Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Take the figures, print them, and write them with `--write`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)}; all by default")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--threads", type=int, help="CPU threads of the networks")
    parser.add_argument("--precision", default="auto", help="of the networks")
    parser.add_argument("--backend", default="auto", help="back end of the networks")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--write", type=Path, help="a file of JSON lines to write")
    options = parser.parse_args()
    taken = {"loop": loop, "voice": voice, "stream": stream, "page": page}
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(unknown)}")
    figures = [taken[case](options) for case in options.cases or CASES]
    print(table(figures, COLUMNS))
    if options.write:
        write(figures, options.write)


if __name__ == "__main__":
    main()
