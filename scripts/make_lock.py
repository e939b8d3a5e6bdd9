"""Write the lock files: the tested versions of all packages with file hashes, without naming a registry.

    pip install uv && python scripts/make_lock.py

`locks/web.txt` is for the program with its page and service, `locks/test.txt` for the tests. PyTorch and the packages
that only it needs are left out, since the right build depends on the machine. Run it after changing pyproject.toml or
constraints.txt; it uses the registry that uv is configured with.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = {"web": ("web",), "test": ("test",)}
OF_PYTORCH = [
    "torch", "triton", "setuptools", "cuda-bindings", "cuda-pathfinder", "cuda-toolkit", "nvidia-cublas",
    "nvidia-cuda-cupti", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime", "nvidia-cudnn-cu13", "nvidia-cufft",
    "nvidia-cufile", "nvidia-curand", "nvidia-cusolver", "nvidia-cusparse", "nvidia-cusparselt-cu13",
    "nvidia-nccl-cu13", "nvidia-nvjitlink", "nvidia-nvshmem-cu13", "nvidia-nvtx",
]  # fmt: skip
HEAD = """\
# The tested versions with hashes, made by scripts/make_lock.py. PyTorch is installed first, then:
#   pip install --require-hashes -r locks/{name}.txt && pip install --no-deps .
"""


def main() -> None:
    """Write every lock file."""
    for name, extras in EXTRAS.items():
        line = ["uv", "pip", "compile", "pyproject.toml", "--generate-hashes", "--universal", "--quiet"]
        line += [
            "--python-version",
            "3.11",
            "--constraint",
            "constraints.txt",
            "--no-header",
            "--no-annotate",
        ]
        line += [part for extra in extras for part in ("--extra", extra)]
        line += [part for package in OF_PYTORCH for part in ("--no-emit-package", package)]
        made = subprocess.run(line, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        (ROOT / "locks" / f"{name}.txt").write_text(HEAD.format(name=name) + made, encoding="utf-8")
        print(f"wrote locks/{name}.txt")


if __name__ == "__main__":
    main()
