"""`liveportrait verify`: what files say about how they were made."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from liveportrait.errors import UserError


class NotMarked(UserError):
    """At least one file is not marked as generated."""

    status = 1


@dataclass(frozen=True)
class Verify:
    """Show what FILEs say about how they were made.

    Exit status 0: all say that they are generated, and are intact; 1: some do not, or were altered; 2: some cannot be
    read.
    """

    files: Annotated[Positional[tuple[Path, ...]], arg(metavar="FILE [FILE ...]")]
    """pictures and videos, from any program"""
    trust: Path | None = None
    """a PEM file of certificates to trust, in addition to the one made for this user"""
    json: bool = False
    """print one JSON object per file instead of text"""

    def run(self) -> None:
        """Print what was found. Raises `UserError`, or `NotMarked` once all files are checked."""
        from liveportrait.marking.verdict import verify

        if not self.files:
            raise UserError("FILE is missing: name a picture or a video")
        unreadable, unmarked = None, 0
        for path in self.files:
            try:
                verdict = verify(path, self.trust)
            except UserError as error:
                if unreadable:
                    print(f"liveportrait: {unreadable}", file=sys.stderr)
                unreadable = error
                continue
            if self.json:
                print(json.dumps({"file": str(path), **verdict.as_json()}))
            else:
                print("\n".join(verdict.lines()))
            unmarked += not verdict.marked
        if unreadable:
            raise unreadable
        if unmarked:
            raise NotMarked(f"{unmarked} of {len(self.files)} not marked as generated")
