"""The service under twice the load it can handle, and killed midway: lost and refused jobs, and response times.

    python benchmarks/service_load.py                    # two minutes of load, then one with a kill -9
    python benchmarks/service_load.py --seconds 20 --write load.jsonl

Starts `liveportrait serve` on a free local port with a folder of its own, and stops it. Jobs are tiny: a photo of 128
px is edited, or animated with a motion of two frames, in turn. First the rate of jobs one after the other is measured;
then jobs are posted at `--factor` times that rate, regardless of the answers.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, quantiles

import httpx
from measuring import Figure, table, write
from skimage.data import astronaut

from liveportrait.apps.server.client import Client
from liveportrait.media import save_image
from liveportrait.motion import Template, bundled_templates, write_template

QUEUE = 4  # jobs that may wait
POSTERS = 8  # threads that post
DRAIN_TIMEOUT_S = 120.0
COLUMNS = (
    "phase",
    "seconds",
    "posted",
    "accepted",
    "refused",
    "away",
    "done",
    "lost",
    "begun_again",
    "twice",
)
REFUSALS = ("phase", "refusal_p50_ms", "refusal_p95_ms", "refusal_max_ms", "server_under_100_ms")
MEMORY = ("phase", "memory_mb", "memory_drift", "load")


class Server:
    """The service as a process that can be restarted on the same folder."""

    def __init__(self, data: Path, backend: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._line = [sys.executable, "-m", "liveportrait", "serve", f"--port={self.port}", f"--data={data}"]
        self._line += [f"--queue={QUEUE}", "--end-seconds=5", f"--backend={backend}"]
        self.data = data

    def start(self) -> None:
        """Start it, and wait until it accepts jobs."""
        self.process = subprocess.Popen(self._line, stdout=subprocess.DEVNULL)
        last = time.monotonic() + 120
        while time.monotonic() < last and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        raise SystemExit("the service did not start")

    def kill(self, number: int = signal.SIGTERM) -> None:
        """Stop it with a signal, and wait until it has ended."""
        self.process.send_signal(number)
        self.process.wait(60)

    @property
    def memory(self) -> int:
        """Its resident memory, KiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)


@dataclass
class Answers:
    """The answers to all posted jobs."""

    accepted: list[str] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)  # s to each 429
    others: Counter[object] = field(default_factory=Counter)

    @property
    def posted(self) -> int:
        """The number of posted jobs."""
        return len(self.accepted) + len(self.refusals) + self.others.total()


class Load:
    """Posts jobs at a constant rate, regardless of the answers."""

    def __init__(self, url: str, jobs: list[dict[str, object]]) -> None:
        self._jobs = jobs
        self._http = httpx.Client(base_url=url, timeout=30)
        self.answers = Answers()

    def post(self, number: int) -> None:
        """Post one job."""
        began = time.perf_counter()
        try:
            answer = self._http.post("/v1/jobs", json=self._jobs[number % len(self._jobs)])
        except httpx.TransportError:
            self.answers.others["away"] += 1
            return
        if answer.status_code == 202:
            self.answers.accepted.append(answer.json()["id"])
        elif answer.status_code == 429:
            self.answers.refusals.append(time.perf_counter() - began)
        else:
            self.answers.others[answer.status_code] += 1

    def run(self, rate: float, seconds: float) -> None:
        """Post `rate` jobs per second for `seconds`."""
        began = time.monotonic()
        with ThreadPoolExecutor(POSTERS) as posters:
            for number in range(int(rate * seconds)):
                time.sleep(max(began + number / rate - time.monotonic(), 0))
                posters.submit(self.post, number)


def tiny_jobs(client: Client, folder: Path) -> list[dict[str, object]]:
    """The requests to edit a photo and to animate it, with their files uploaded."""
    photo, motion = folder / "me.png", folder / "talk.safetensors"
    save_image(photo, astronaut()[30:286:2, 100:356:2].copy())
    talk = bundled_templates()["talk"]
    write_template(motion, Template(talk.motion.rows([0, 1]), talk.fps, talk.layout))
    source, driving = client.post_source(photo), client.post_source(motion)
    return [
        {"kind": "edit", "source": source, "options": {"smile": 0.5}},
        {"kind": "animate", "source": source, "driving": [driving]},
    ]


def capacity(client: Client, jobs: list[dict[str, object]], count: int = 8) -> float:
    """Jobs per second, one after the other; the first two, which load lazily, are not timed."""
    began = 0.0
    for number in range(count + 2):
        if number == 2:
            began = time.monotonic()
        job = jobs[number % len(jobs)]
        client.wait(client.submit(job["kind"], job["source"], job.get("driving", ()), job.get("options")))  # type: ignore[arg-type]
    return count / (time.monotonic() - began)


def wait_until_drained(url: str) -> None:
    """Wait until no job is queued or running."""
    last = time.monotonic() + DRAIN_TIMEOUT_S
    while time.monotonic() < last:
        counts = [line.split()[1] for line in _metrics(url) if line.startswith("liveportrait_jobs_")]
        if set(counts[:2]) == {"0.0"}:
            return
        time.sleep(0.5)


def _metrics(url: str) -> list[str]:
    return [line for line in httpx.get(f"{url}/metrics").text.splitlines() if not line.startswith("#")]


def answered_in_time(url: str) -> str:
    """By the service's own metrics, how many refusals for a full queue took at most 100 ms, and how many there were."""
    found = {
        key: float(line.split()[-1])
        for line in _metrics(url)
        for key in ('le="0.1"', 'le="+Inf"')
        if "answer_seconds_bucket" in line and 'status="429"' in line and key in line
    }
    return "/".join(str(round(found.get(key, 0.0))) for key in ('le="0.1"', 'le="+Inf"'))


def figure(phase: str, seconds: float, answers: Answers, server: Server, memory: list[int]) -> Figure:
    """The figure of a phase; the service must have ended, so that its database can be read."""
    with sqlite3.connect(server.data / "jobs.sqlite3") as connection:
        rows = dict(connection.execute("SELECT id, state FROM jobs"))
        begun = dict(connection.execute("SELECT id, attempts FROM jobs"))
    results = Counter(path.stem for path in (server.data / "results").iterdir())
    done = [job for job in answers.accepted if rows.get(job) == "done" and results[job] == 1]
    refused = sorted(answers.refusals) or [0.0]
    parts = quantiles(refused, n=20) if len(refused) > 1 else refused * 19
    third = max(len(memory) // 3, 1)
    middle, last = mean(memory[third:-third] or memory), mean(memory[-third:])
    return {
        "phase": phase,
        "seconds": round(seconds, 1),
        "posted": answers.posted,
        "accepted": len(answers.accepted),
        "refused": len(answers.refusals),
        "away": answers.others["away"],
        "done": len(done),
        "lost": len(answers.accepted) - len(done),
        "begun_again": sum(begun[job] > 1 for job in answers.accepted if job in begun),
        "twice": sum(count > 1 for count in results.values()),
        "refusal_p50_ms": round(1000 * parts[9], 1),
        "refusal_p95_ms": round(1000 * parts[18], 1),
        "refusal_max_ms": round(1000 * refused[-1], 1),
        "memory_mb": round(last / 1024),
        "memory_drift": round(last / middle - 1, 4),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=120, help="of load without a kill")
    parser.add_argument("--kill-seconds", type=float, default=60, help="of load with a kill in the middle")
    parser.add_argument("--factor", type=float, default=2.0, help="load as a multiple of the capacity")
    parser.add_argument("--backend", default="auto", help="back end of the networks")
    parser.add_argument("--write", type=Path, help="also write the figures to this file, as JSON lines")
    options = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for phase, seconds in (("load", options.seconds), ("kill -9", options.kill_seconds)):
            data = Path(folder) / phase
            server = Server(data, options.backend)
            server.start()
            try:
                figures.append(run_phase(phase, seconds, options.factor, server, Path(folder)))
                if options.write:
                    write(figures, options.write)
            finally:
                if server.process.poll() is None:
                    server.kill(signal.SIGKILL)
    print(*(table(figures, columns) for columns in (COLUMNS, REFUSALS, MEMORY)), sep="\n\n")


def run_phase(phase: str, seconds: float, factor: float, server: Server, folder: Path) -> Figure:
    """Measure the capacity, post jobs, kill the service in the second phase, and return the phase's figure."""
    place = folder / f"{phase}-files"
    place.mkdir()
    with Client(server.url) as client:
        jobs = tiny_jobs(client, place)
        rate = factor * capacity(client, jobs)
    print(f"{phase}: capacity {rate / factor:.2f} jobs/s, posting {rate:.2f} jobs/s", flush=True)
    load, memory = Load(server.url, jobs), []
    posting = threading.Thread(target=load.run, args=(rate, seconds))
    began = time.monotonic()
    posting.start()
    killed = phase == "load"
    while posting.is_alive():
        memory.append(server.memory)
        if not killed and time.monotonic() > began + seconds / 2:
            killed = True
            server.kill(signal.SIGKILL)
            server.start()
            memory.clear()  # another process's database
        posting.join(1)
    taken = time.monotonic() - began
    memory.append(server.memory)
    wait_until_drained(server.url)
    in_time = answered_in_time(server.url)
    server.kill()
    return {**figure(phase, taken, load.answers, server, memory), "server_under_100_ms": in_time}


if __name__ == "__main__":
    main()
