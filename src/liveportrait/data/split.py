"""Which people are kept for measuring."""

from __future__ import annotations

import hashlib


def is_held_out(identity: str, one_in: int) -> bool:
    """Whether an identity belongs to the held-out set: a hash decides, so that any corpus splits the same way."""
    return int(hashlib.sha256(identity.encode()).hexdigest(), 16) % one_in == 0
