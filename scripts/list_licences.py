"""List the licence of every installed package that the program requires, or check them (`make licences`).

    python scripts/list_licences.py [EXTRA ...] [--check]

Without extras, this covers the default installation. With `--check` the exit status is 1 if a licence is not allowed.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution

ALLOWED = re.compile(
    r"MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|Zlib|Unlicense|HPND|CC0|Public Domain",
    re.IGNORECASE,
)
REFUSED = re.compile(r"AGPL|Affero|(?<!L)GPL|non-?commercial|CC-BY-NC|proprietary", re.IGNORECASE)
KNOWN = {
    "torch": "BSD-3-Clause",
    "numpy": "BSD-3-Clause",
    "scipy": "BSD-3-Clause",
}  # they also contain files by others
EXCEPTIONS = {
    "av": "BSD-3-Clause; its wheel contains FFmpeg with x264 and x265, which is GPL (see NOTICE)",
}


def licence(found: Distribution) -> str:
    """A package's licence: its expression, or else its classifiers, or else the first line of its licence text."""
    about = found.metadata
    classified = [
        name.split(" :: ")[-1] for name in about.get_all("Classifier", []) if name.startswith("License")
    ]
    text = about.get("License-Expression") or " / ".join(classified) or about.get("License") or "not stated"
    return text.strip().splitlines()[0] if text.strip() else "not stated"


def required_packages(extras: list[str]) -> dict[str, str]:
    """Every installed package that the program requires with these extras, and its licence."""
    waiting, found, seen = [("liveportrait", frozenset(extras))], {}, set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # only for other systems
        if name != "liveportrait":
            found[name] = EXCEPTIONS.get(name) or KNOWN.get(name) or licence(package)
        for line in package.requires or []:
            required, _, marker = line.partition(";")
            extra = re.search(r"extra == ['\"]([\w.-]+)['\"]", marker)
            if extra and extra[1] not in wanted:
                continue
            match = re.match(r"\s*([\w.-]+)\s*(?:\[([^\]]*)\])?", required)
            assert match
            inner = frozenset(part.strip() for part in (match[2] or "").split(",") if part.strip())
            waiting.append((re.sub(r"[-_.]+", "-", match[1]).lower(), inner))
    return dict(sorted(found.items()))


def offending(packages: dict[str, str]) -> dict[str, str]:
    """The packages whose licence is refused or unknown."""
    return {
        name: text
        for name, text in packages.items()
        if name not in EXCEPTIONS and (REFUSED.search(text) or not ALLOWED.search(text))
    }


def main() -> int:
    """Print the list."""
    packages = required_packages([argument for argument in sys.argv[1:] if not argument.startswith("-")])
    for name, text in packages.items():
        print(f"{name:30} {text}")
    wrong = offending(packages) if "--check" in sys.argv else {}
    for name, text in wrong.items():
        print(f"not allowed: {name}: {text}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
