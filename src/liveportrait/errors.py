"""Errors that a user can act on. Front ends print them as one sentence and exit with status 2."""

from __future__ import annotations


class UserError(Exception):
    """Something in the input is wrong. The message names the value, the place and the remedy."""

    status = 2
    """the command line's exit status"""
