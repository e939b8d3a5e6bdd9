"""The widgets for an animation's options, in groups. Types and ranges come from the classes that define the options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args, get_origin

import gradio as gr

from liveportrait.animation.option_checks import RANGES
from liveportrait.apps.jobs import choices_of
from liveportrait.choices import Opening


class LabelledOption(NamedTuple):
    """An option with the texts of its widget."""

    name: str
    label: str
    info: str = ""


GROUPS: dict[str, tuple[LabelledOption, ...]] = {
    "Motion": (
        LabelledOption(
            "motion",
            "Kind of motion",
            "relative: the driver's movement from its first pose; absolute: the driver's own pose",
        ),
        LabelledOption("region", "Part that moves"),
        LabelledOption("multiplier", "Strength", "of all motion"),
        LabelledOption("expression_strength", "Strength of the expression"),
        LabelledOption("smooth", "Smoothing", "over time, without delay"),
        LabelledOption(
            "expression",
            "Expression",
            "faithful: adapted to the portrait; landmarks: the driver's differences, unchanged",
        ),
        LabelledOption(
            "driving_option",
            "Scale of absolute motion",
            "expression friendly: starts from the portrait's own pose",
        ),
    ),
    "Driver": (
        LabelledOption("reference", "Reference frame", "or the number of a driver frame"),
        LabelledOption(
            "framing", "Its camera", "steady: removes pans, zooms and cuts; follow: the head moves with them"
        ),
        LabelledOption("crop_driving", "Crop to its face"),
        LabelledOption("driving_crop_scale", "Size of its crop", "relative to its face"),
        LabelledOption("driving_crop_x", "Shift its crop right"),
        LabelledOption("driving_crop_y", "Shift its crop down"),
        LabelledOption("photo_pose", "A picture also turns the head"),
    ),
    "Head and shoulders": (
        LabelledOption("lock_head", "Keep the head still"),
        LabelledOption("lock_scale", "Keep the head's size"),
        LabelledOption("lock_shoulders", "Keep the neck in place"),
        LabelledOption("stitching", "Keep shoulders and border in place"),
    ),
    "Eyes and mouth": (
        LabelledOption("mouth", "Mouth", "follow: the driver's; own: the portrait's; silent: at rest"),
        LabelledOption("eye_opening", "Both eyes", "height / width: 0 is closed, 0.35 is open"),
        LabelledOption("left_eye_opening", "Left eye"),
        LabelledOption("right_eye_opening", "Right eye"),
        LabelledOption("lip_opening", "Lips"),
        LabelledOption("normalize_eyes", "Start from open eyes"),
        LabelledOption("normalize_lips", "Start from closed lips"),
    ),
    "Result": (
        LabelledOption("paste_back", "Paste the face back into the picture"),
        LabelledOption(
            "mask", "Area to paste back", "template: the crop with soft edges; face: only the face"
        ),
        LabelledOption("match_colour", "Match colours at the edge"),
        LabelledOption("audio", "Sound"),
        LabelledOption("max_size", "Longest side, px", "0: same as the portrait"),
        LabelledOption("compare", "Also make a side by side comparison"),
    ),
}
HUMAN_ONLY = (
    "eye_opening",
    "left_eye_opening",
    "right_eye_opening",
    "lip_opening",
    "normalize_lips",
    "normalize_eyes",
)
"""options that do not apply to animals"""
CROP = (
    LabelledOption("crop_scale", "Size of the crop", "relative to the face"),
    LabelledOption("crop_x", "Shift right"),
    LabelledOption("crop_y", "Shift down"),
    LabelledOption("box", "Position of the face", "x,y,w,h in px, if it is not found automatically"),
    LabelledOption("crop", "Crop to the face"),
)

SPEAKING = (
    LabelledOption("head", "Head of a photo", "gentle: moves like a speaker's"),
    LabelledOption("blink", "Blink (photos)"),
    LabelledOption("strength", "Mouth strength"),
    LabelledOption("seed", "Seed", "for different movement of head and eyes"),
)
_STARTS = (("Best match", "match"), ("First frame", "first"), ("Most neutral", "auto"))
_OPENINGS = (("Move freely", "none"), ("Same as the driver's", "driver"), ("Closed", "0"), ("Open", "0.35"))
_STEPS = {"scale": 0.1, "x": 0.005, "y": 0.005}  # of crops
_CHOICES = {**choices_of("speak"), **choices_of("animate")}
Widget = gr.Checkbox | gr.Dropdown | gr.Slider | gr.Number | gr.Textbox


def widgets(options: Sequence[LabelledOption]) -> dict[str, Widget]:
    """A widget for each option, by name, added to the current layout."""
    return {option.name: _widget(option) for option in options}


def grouped_widgets(leave_out: Sequence[str] = ()) -> dict[str, Widget]:
    """The widgets of all groups, each group in an accordion."""
    made: dict[str, Widget] = {}
    for title, group in GROUPS.items():
        if options := [option for option in group if option.name not in leave_out]:
            with gr.Accordion(title, open=False, elem_classes="lp-fold"):
                made |= widgets(options)
    return made


def changed(names: Sequence[str], values: Sequence[Any]) -> Mapping[str, object]:
    """The options that differ from their defaults, in the form that `options_from` reads."""
    given = dict(zip(names, values, strict=True))
    if not given.get("max_size", True):
        given["max_size"] = None
    return {name: value for name, value in given.items() if value != _default(name)}


def _default(name: str) -> Any:
    choice = _CHOICES[name]
    return "none" if choice.kind == Opening else choice.default


def _widget(option: LabelledOption) -> Widget:
    name, label, info = option
    kind, default = _CHOICES[name].kind, _default(name)
    said: dict[str, Any] = {"label": label, "info": info or None}
    if kind is bool:
        return gr.Checkbox(default, **said)
    if kind == Opening:
        return gr.Dropdown(list(_OPENINGS), value=default, allow_custom_value=True, **said)
    if name == "reference":
        return gr.Dropdown(list(_STARTS), value=default, allow_custom_value=True, **said)
    if words := next((each for each in (kind, *get_args(kind)) if get_origin(each) is Literal), None):
        return gr.Dropdown(
            [(word.replace("-", " ").capitalize(), word) for word in get_args(words)], value=default, **said
        )
    if kind is float:
        low, high = RANGES[name]
        return gr.Slider(low, high, default, step=_STEPS.get(name.rsplit("_", 1)[-1], 0.05), **said)
    if kind is str:
        return gr.Textbox(default, **said)
    return gr.Number(default or 0, precision=0, minimum=0, **said)
