"""Fuzz everything that reads files: `python scripts/fuzz.py [EXAMPLES]`, by default 5000 examples per reader."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TEST = Path(__file__).parents[1] / "tests" / "test_fuzzing.py"

if __name__ == "__main__":
    examples = sys.argv[1] if len(sys.argv) > 1 else "5000"
    environment = {**os.environ, "FUZZ_EXAMPLES": examples}
    sys.exit(subprocess.run([sys.executable, "-m", "pytest", "-v", str(TEST)], env=environment).returncode)
