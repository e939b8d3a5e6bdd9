"""Options of marking results."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MarkOptions:
    """Whether results are marked as generated, in ways that programs can read."""

    mark: bool = True
    """mark the result as generated, for programs to read; --no-mark leaves the mark out, and disclosure to you
    (see docs/guide/marking.md)"""
