"""Motion templates on disk: safetensors by default, or the published program's `.pkl`.

The bundled ones, made for the compact weights, are next to this file.

Safetensors file: float32 tensors `rotation` (N,3,3), `translation` (N,3), `scale` (N,1), `expression`
(N,21,3) and, if known, `canonical` (N,21,3), `eye_ratios` (N,2), `lip_ratios` (N,1), `blendshapes` (N,52); metadata
`format`, `version`, `fps` as a fraction ("30000/1001") and `layout`, the name of the keypoint layout.

The published schema is a dict with a small dict of arrays per frame. Two spellings are in circulation: older files call
the rotation `R_d` and the ratio lists `c_d_eyes_lst` and `c_d_lip_lst`, newer ones `R`, `c_eyes_lst`, `c_lip_lst`.
Animal templates have no ratios. The canonical keypoints (`kp`) were added last, and nothing here depends on them.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from liveportrait.errors import UserError
from liveportrait.limits import check_frames
from liveportrait.media.files import check_input, check_output, output_file
from liveportrait.motion.groups import PUBLISHED
from liveportrait.motion.templates import pickled_arrays
from liveportrait.motion.templates.template import MAX_FPS, Template, unknown_canonical
from liveportrait.networks.geometry import transform_keypoints
from liveportrait.networks.interface import NUM_KEYPOINTS, Motion

FORMAT = "liveportrait-motion-template"
VERSION = "1"
SUFFIXES = (".safetensors", ".pkl")
MAX_BYTES = 2**30

_FOLDER = Path(__file__).parent  # of the bundled ones
_ORDER = ("talk", "smile", "look-around", "blink")
REQUIRED = ("rotation", "translation", "scale", "expression")
_OPTIONAL = ("canonical", "eye_ratios", "lip_ratios", "blendshapes")
_DEFAULT_FPS = 25  # of a published template without a rate
_POINTS = (1, NUM_KEYPOINTS, 3)


def read_template(path: str | Path) -> Template:
    """The motion template in a `.safetensors` or published `.pkl` file. Raises `UserError`."""
    path = check_input(path)
    try:
        if path.suffix.lower() == ".pkl":
            return from_published(pickled_arrays.read(path))
        return _read_safetensors(path)
    except UserError as error:
        raise UserError(f"cannot use the motion template {path}: {error}") from error


def check_template_output(path: str | Path, layout: str, overwrite: bool = False) -> Path:
    """The path, if a template with this keypoint layout can be written there; otherwise raises `UserError`."""
    path = check_output(path, SUFFIXES, overwrite)
    if path.suffix.lower() == ".pkl" and layout != PUBLISHED.layout:
        raise UserError(
            f"{path}: a published .pkl is for the published weights only, and these have the keypoint layout"
            f" {layout!r}: write a .safetensors template instead"
        )
    return path


def write_template(path: str | Path, template: Template, overwrite: bool = False) -> None:
    """Write a template as `.safetensors` or, for the published weights' layout, as published `.pkl`.

    The pickle uses protocol 3 and has dicts, lists, integers and numpy arrays. Raises `UserError`.
    """
    path = check_template_output(path, template.layout, overwrite)
    is_pickle = path.suffix.lower() == ".pkl"
    data = pickled_arrays.dumps(to_published(template)) if is_pickle else _safetensors_bytes(template)
    with output_file(path, overwrite) as temporary:
        temporary.write_bytes(data)


def bundled_templates() -> dict[str, Template]:
    """All bundled templates by name, in the order in which the demonstration plays them.

    Raises `UserError` if there are none.
    """
    return {name: read_template(path) for name, path in bundled_files().items()}


def bundled_files() -> dict[str, Path]:
    """The files of the bundled templates, by name and in the same order. Raises `UserError` if there are none."""
    files = {path.stem: path for path in sorted(_FOLDER.glob("*.safetensors"))}
    if not files:
        raise UserError(f"the bundled motion templates are missing from {_FOLDER}: install the program again")
    names = [*(name for name in _ORDER if name in files), *(name for name in files if name not in _ORDER)]
    return {name: files[name] for name in names}


def from_published(content: Any) -> Template:
    """The template in a published `.pkl`; `content` is what `pickled_arrays.loads` returned."""
    if not isinstance(content, dict) or not isinstance(content.get("motion"), list):
        raise UserError("it has no list of motions")
    frames = content["motion"]
    if not frames or not all(isinstance(frame, dict) for frame in frames):
        raise UserError("its list of motions is empty or malformed")
    announced = content.get("n_frames", len(frames))
    if not isinstance(announced, int) or announced != len(frames):
        raise UserError(f"its n_frames is not {len(frames)}, the number of its frames")
    canonical = (
        _stack([frame.get("kp") for frame in frames], _POINTS, "kp")
        if all("kp" in frame for frame in frames)
        else unknown_canonical(len(frames))
    )
    motion = Motion(
        rotation=_stack([frame.get("R", frame.get("R_d")) for frame in frames], (1, 3, 3), "R"),
        translation=_stack([frame.get("t") for frame in frames], (1, 3), "t"),
        scale=_stack([frame.get("scale") for frame in frames], (1, 1), "scale"),
        canonical=canonical,
        expression=_stack([frame.get("exp") for frame in frames], _POINTS, "exp"),
    )
    return Template(
        motion,
        _fps(content.get("output_fps", _DEFAULT_FPS)),
        PUBLISHED.layout,
        eye_ratios=_ratios(content, ("c_eyes_lst", "c_d_eyes_lst"), len(frames), (1, 2)),
        lip_ratios=_ratios(content, ("c_lip_lst", "c_d_lip_lst"), len(frames), (1, 1)),
    )


def to_published(template: Template) -> dict[str, Any]:
    """The published schema (newer spelling) of a template, ready to be pickled.

    That schema has integer rates only: the rate is rounded.
    """
    motion = template.motion
    arrays = {"scale": motion.scale, "R": motion.rotation, "exp": motion.expression, "t": motion.translation}
    if not motion.canonical.isnan().any():
        arrays |= {"kp": motion.canonical, "x_s": transform_keypoints(motion)}
    content: dict[str, Any] = {
        "n_frames": len(template),
        "output_fps": max(1, round(template.fps)),
        "motion": [
            {name: tensor[index : index + 1].numpy().copy() for name, tensor in arrays.items()}
            for index in range(len(template))
        ],
    }
    for name, ratios in (("c_eyes_lst", template.eye_ratios), ("c_lip_lst", template.lip_ratios)):
        if ratios is not None:
            content[name] = [row[None].numpy().copy() for row in ratios]
    return content


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
        "blendshapes": template.blendshapes,
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
        raise UserError(f"it is larger than {MAX_BYTES} bytes, the limit for a template")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = set(file.keys())
            found = {name: file.get_tensor(name) for name in (*REQUIRED, *_OPTIONAL) if name in names}
    except (SafetensorError, OSError) as error:
        raise UserError("it is not a readable safetensors file") from error
    if metadata.get("format") != FORMAT:
        raise UserError("it is a safetensors file, but not a motion template")
    if metadata.get("version") != VERSION:
        raise UserError(f"its version is {metadata.get('version')!r}, this program reads {VERSION!r}")
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        raise UserError(f"it lacks {', '.join(missing)}")
    if not found["rotation"].ndim:
        raise UserError("its rotation is one number, it should be a matrix for each frame")
    check_frames("it", len(found["rotation"]))
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
    return Template(motion, fps, layout, *(found.get(name) for name in _OPTIONAL[1:]))


def _stack(values: list[Any], shape: tuple[int, ...], name: str) -> Tensor:
    """(N, *shape[1:]) float32 from one array (1, ...) per frame."""
    for index, value in enumerate(values):
        if not isinstance(value, np.ndarray) or value.shape != shape:
            found = value.shape if isinstance(value, np.ndarray) else type(value).__name__
            raise UserError(f"frame {index} has {found} as {name!r}, it should be an array {shape}")
    return torch.from_numpy(np.concatenate(values).astype(np.float32))


def _ratios(
    content: dict[str, Any], names: tuple[str, str], count: int, shape: tuple[int, int]
) -> Tensor | None:
    values = content.get(names[0], content.get(names[1]))
    if values is None or (isinstance(values, list) and not values):
        return None
    if not isinstance(values, list) or len(values) != count:
        raise UserError(f"{names[0]!r} is not a list with one entry for each of the {count} frames")
    return _stack(values, shape, names[0])


def _fps(value: Any) -> Fraction:
    valid = isinstance(value, int | float) and 0 < value <= MAX_FPS  # false for NaN
    if not valid:
        raise UserError(f"its output_fps is not a number above 0 and up to {MAX_FPS}")
    return Fraction(value).limit_denominator(1001)
