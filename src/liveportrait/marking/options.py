"""What a user chooses about the marking of results."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MarkOptions:
    """Whether a result says of itself, in a way that programs read, that it is generated."""

    mark: bool = True
    """say in the result, for programs, that it is generated; --no-mark leaves that, and the duties that go with it, to
    you (see docs/guide/marking.md)"""
