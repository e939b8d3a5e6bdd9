"""Compile the kernels of the serverless page: generator.c as WebAssembly, for two kinds of browsers.

    pip install ziglang==0.17.1
    python scripts/make_web_kernels.py

`fused` multiplies and adds in one instruction, for browsers with relaxed SIMD; `plain` needs only 128-bit SIMD.
kernels.json next to them records the compiler and the files' hashes.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "src" / "liveportrait" / "apps" / "web" / "page" / "kernels"
SOURCE = FOLDER / "generator.c"
FEATURES = {"plain": "generic+simd128", "fused": "generic+simd128+relaxed_simd"}
# Sums are not reordered, and nothing is fused unless the source says so: both kinds agree up to rounding.
FLAGS = [
    *("--target=wasm32-freestanding", "-O3", "-fno-slp-vectorize", "-fno-vectorize", "-ffp-contract=off"),
    *("-Wall", "-Wextra", "-Werror", "-nostdlib", "-Wl,--no-entry", "-Wl,--strip-all"),
    *("-Wl,--export=__heap_base", "-Wl,-z,stack-size=65536"),
]


def main() -> None:
    """Compile both, and write kernels.json."""
    for name, features in FEATURES.items():
        made = FOLDER / f"generator-{name}.wasm"
        command = [
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            f"-mcpu={features}",
            *FLAGS,
            "-o",
            str(made),
            str(SOURCE),
        ]
        subprocess.run(command, check=True)
        made.chmod(0o644)
    files = [SOURCE, *(FOLDER / f"generator-{name}.wasm" for name in FEATURES)]
    record = {
        "compiler": f"ziglang {version('ziglang')}",
        "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
    }
    (FOLDER / "kernels.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
