"""Write the tests' corpus of broken and malicious files to a new folder; with --all, read each file in every role.

    python scripts/make_hostile.py FOLDER [--all]

The report next to the folder has a JSON line per reading: how it ended, CPU seconds and MiB used.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

import hostile_corpus  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="read every file in every role")
    options = parser.parse_args()
    scratch = options.folder.with_name(options.folder.name + "-beside")
    scratch.mkdir()
    print(f"{hostile_corpus.write(options.folder, scratch)} inputs in {options.folder}")
    if not options.all:
        return 0
    report = options.folder.with_name(options.folder.name + ".jsonl")
    command = [sys.executable, str(TESTS / "hostile_roles.py"), str(options.folder), str(report)]
    status = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    read = [line for line in lines if line["end"] not in ("begun", "left")]
    print(", ".join(f"{count} {end}" for end, count in Counter(line["end"] for line in read).items()))
    for what in ("seconds", "mib"):
        worst = max(read, key=lambda line: line[what])
        print(f"most {what}: {worst[what]}, {worst['file']!r} as {worst['role']}")
    return status


if __name__ == "__main__":
    sys.exit(main())
