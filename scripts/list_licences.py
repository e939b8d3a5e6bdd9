"""List the licence of every installed package that the program asks for, or check them: make licences.

    python scripts/list_licences.py [EXTRA ...] [--check]

Without extras, the default install. `--check` ends with status 1 where a licence is not among those allowed.
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
}  # with files of others in them
EXCEPTIONS = {
    "av": "BSD-3-Clause; its wheel has FFmpeg with x264 and x265, which is GPL (see NOTICE)",
}


def licence(found: Distribution) -> str:
    """What a package says of its licence: the expression, else the classifiers, else the first line of the text."""
    about = found.metadata
    classified = [
        name.split(" :: ")[-1] for name in about.get_all("Classifier", []) if name.startswith("License")
    ]
    said = about.get("License-Expression") or " / ".join(classified) or about.get("License") or "not stated"
    return said.strip().splitlines()[0] if said.strip() else "not stated"


def needed(extras: list[str]) -> dict[str, str]:
    """Every package that the program needs with those extras, and its licence."""
    waiting, found, seen = [("liveportrait", frozenset(extras))], {}, set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # of another system
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
    """The packages whose licence is refused or not known."""
    return {
        name: said
        for name, said in packages.items()
        if name not in EXCEPTIONS and (REFUSED.search(said) or not ALLOWED.search(said))
    }


def main() -> int:
    """Print the list."""
    packages = needed([argument for argument in sys.argv[1:] if not argument.startswith("-")])
    for name, said in packages.items():
        print(f"{name:30} {said}")
    wrong = offending(packages) if "--check" in sys.argv else {}
    for name, said in wrong.items():
        print(f"not allowed: {name}: {said}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
