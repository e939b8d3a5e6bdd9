"""Motion templates on disk: safetensors by default, the published program's `.pkl` for those who need it.

Safetensors file: float32 tensors `rotation` (N,3,3), `translation` (N,3), `scale` (N,1), `expression`
(N,21,3) and, where known, `canonical` (N,21,3), `eye_ratios` (N,2), `lip_ratios` (N,1); metadata
`format`, `version`, `fps` as a fraction ("30000/1001") and `layout`, the name of the keypoint layout.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from liveportrait.errors import UserError
from liveportrait.media.files import check_input, check_output, output_file
from liveportrait.motion import pickled_arrays, published_template
from liveportrait.motion.groups import PUBLISHED
from liveportrait.motion.template import Template, unknown_canonical
from liveportrait.networks.interface import Motion

FORMAT = "liveportrait-motion-template"
VERSION = "1"
SUFFIXES = (".safetensors", ".pkl")
MAX_BYTES = 2**30

_REQUIRED = ("rotation", "translation", "scale", "expression")
_OPTIONAL = ("canonical", "eye_ratios", "lip_ratios")


def read_template(path: str | Path) -> Template:
    """The motion template in a `.safetensors` or published `.pkl` file. Raises `UserError`."""
    path = check_input(path)
    try:
        if path.suffix.lower() == ".pkl":
            return published_template.from_published(pickled_arrays.read(path))
        return _read_safetensors(path)
    except UserError as error:
        raise UserError(f"cannot use the motion template {path}: {error}") from error


def check_template_output(path: str | Path, layout: str, overwrite: bool = False) -> Path:
    """The path, if a template of that keypoint layout may be written there; otherwise `UserError`."""
    path = check_output(path, SUFFIXES, overwrite)
    if path.suffix.lower() == ".pkl" and layout != PUBLISHED.layout:
        raise UserError(
            f"{path}: the published .pkl holds motions of the published weights only, and these have the"
            f" keypoint layout {layout!r}: write a .safetensors template instead"
        )
    return path


def write_template(path: str | Path, template: Template, overwrite: bool = False) -> None:
    """Write a template as `.safetensors` or, for the published weights' layout, as published `.pkl`.

    The pickle has protocol 3 and holds dicts, lists, integers and numpy arrays. Raises `UserError`.
    """
    path = check_template_output(path, template.layout, overwrite)
    is_pickle = path.suffix.lower() == ".pkl"
    data = (
        pickled_arrays.dumps(published_template.to_published(template))
        if is_pickle
        else _safetensors_bytes(template)
    )
    with output_file(path, overwrite) as temporary:
        temporary.write_bytes(data)


def _safetensors_bytes(template: Template) -> bytes:
    motion = template.motion
    tensors: dict[str, Tensor | None] = {
        "rotation": motion.rotation,
        "translation": motion.translation,
        "scale": motion.scale,
        "expression": motion.expression,
        "canonical": None if motion.canonical.isnan().any() else motion.canonical,
        "eye_ratios": template.eye_ratios,
        "lip_ratios": template.lip_ratios,
    }
    fps = template.fps
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "fps": f"{fps.numerator}/{fps.denominator}",
        "layout": template.layout,
    }
    # Copies, because the format refuses tensors that share memory.
    copies = {
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
        if tensor is not None
    }
    return save(copies, metadata)


def _read_safetensors(path: Path) -> Template:
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"it is larger than the {MAX_BYTES} bytes that a template may have")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = set(file.keys())
            found = {name: file.get_tensor(name) for name in (*_REQUIRED, *_OPTIONAL) if name in names}
    except (SafetensorError, OSError) as error:
        raise UserError("it is not a readable safetensors file") from error
    if metadata.get("format") != FORMAT:
        raise UserError("it is a safetensors file, but not a motion template")
    if metadata.get("version") != VERSION:
        raise UserError(f"its version is {metadata.get('version')!r}, this program reads {VERSION!r}")
    missing = [name for name in _REQUIRED if name not in found]
    if missing:
        raise UserError(f"it lacks {', '.join(missing)}")
    try:
        fps = Fraction(metadata.get("fps", ""))
    except (ValueError, ZeroDivisionError):
        raise UserError(f"its frame rate {metadata.get('fps')!r} is not a fraction") from None
    motion = Motion(
        found["rotation"],
        found["translation"],
        found["scale"],
        found["canonical"] if "canonical" in found else unknown_canonical(len(found["rotation"])),
        found["expression"],
    )
    layout = metadata.get("layout", "")
    return Template(motion, fps, layout, found.get("eye_ratios"), found.get("lip_ratios"))
