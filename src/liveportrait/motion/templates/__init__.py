"""Motion templates: the recorded motion of a face, to be replayed on any portrait."""

from liveportrait.motion.templates.files import (
    bundled_files,
    bundled_templates,
    check_template_output,
    read_template,
    write_template,
)
from liveportrait.motion.templates.template import Template, concatenate, unknown_canonical

__all__ = [
    "Template",
    "bundled_files",
    "bundled_templates",
    "check_template_output",
    "concatenate",
    "read_template",
    "unknown_canonical",
    "write_template",
]
