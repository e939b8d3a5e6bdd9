"""What a visitor is told when something goes wrong: a sentence at the place of the result."""

from __future__ import annotations

import logging
import re

from liveportrait.apps.page import shown
from liveportrait.apps.page.visitors import Visitor
from liveportrait.errors import UserError

log = logging.getLogger(__name__)


def told(error: BaseException, visitor: Visitor) -> str:
    """The sentence, as HTML. Visitors know their files by name: the folders of this machine are left out."""
    if not isinstance(error, UserError):
        log.error("the page could not do what it was asked", exc_info=error)
        return shown.message("something went wrong here: try again, or ask who runs this page to look into its log")
    return shown.message(re.sub(rf"{re.escape(str(visitor.folder))}/[0-9a-f]+/", "", str(error)))
