"""The options of an animation in groups. What an option takes comes from the class that defines it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args, get_origin

import gradio as gr

from liveportrait.animation.option_checks import RANGES
from liveportrait.apps.jobs import choices_of
from liveportrait.choices import Opening


class Shown(NamedTuple):
    """An option and what the page says about it."""

    name: str
    label: str
    info: str = ""


GROUPS: dict[str, tuple[Shown, ...]] = {
    "Motion": (
        Shown(
            "motion",
            "Kind of motion",
            "relative: as the driver moves from its first pose on; absolute: the driver's own pose",
        ),
        Shown("region", "Part that follows"),
        Shown("multiplier", "Strength", "of the whole motion"),
        Shown("expression_strength", "Strength of the expression"),
        Shown("smooth", "Smoothing", "over time; adds no delay"),
        Shown(
            "expression",
            "Expression",
            "faithful: made the portrait's own; landmarks: the driver's plain differences",
        ),
        Shown(
            "driving_option",
            "Fit of absolute motion",
            "expression friendly: from the portrait's own pose on",
        ),
    ),
    "Driver": (
        Shown("reference", "Frame to start from", "or the number of a frame of the driver"),
        Shown(
            "framing", "Its camera", "steady: pans, zooms and cuts are taken out; follow: the head goes along"
        ),
        Shown("crop_driving", "Find the face in it"),
        Shown("driving_crop_scale", "Size of its crop", "in sizes of its face"),
        Shown("driving_crop_x", "Shift of its crop to the right"),
        Shown("driving_crop_y", "Shift of its crop downward"),
        Shown("photo_pose", "A picture turns the head, too"),
    ),
    "Head and shoulders": (
        Shown("lock_head", "Keep the head still"),
        Shown("lock_scale", "Keep the head's size"),
        Shown("lock_shoulders", "Turn on the neck, which stays in place"),
        Shown("stitching", "Hold shoulders and border in place"),
    ),
    "Eyes and mouth": (
        Shown("mouth", "Mouth", "follow the driver; own: as the portrait has it; silent: at rest"),
        Shown("eye_opening", "Both eyes", "height over width: 0 is closed, 0.35 open"),
        Shown("left_eye_opening", "Left eye"),
        Shown("right_eye_opening", "Right eye"),
        Shown("lip_opening", "Lips"),
        Shown("normalize_eyes", "Start from open eyes"),
        Shown("normalize_lips", "Start from closed lips"),
    ),
    "Result": (
        Shown("paste_back", "Lay the face back into the picture"),
        Shown("mask", "What is laid back", "template: the crop with soft edges; face: what the face covers"),
        Shown("match_colour", "Match colours along the edge"),
        Shown("audio", "Sound"),
        Shown("max_size", "Longest side, px", "0: as large as the portrait"),
        Shown("compare", "Also portrait, driver and result side by side"),
    ),
}
PEOPLES = (
    "eye_opening",
    "left_eye_opening",
    "right_eye_opening",
    "lip_opening",
    "normalize_lips",
    "normalize_eyes",
)
"""options that animals do not have"""
CROP = (
    Shown("crop_scale", "Size of the crop", "in sizes of the face"),
    Shown("crop_x", "Shift to the right"),
    Shown("crop_y", "Shift downward"),
    Shown("box", "Place of the face", "x,y,w,h in px, where it is not found by itself"),
    Shown("crop", "Find the face and cut it out"),
)

SPEAKING = (
    Shown("head", "Head of a photo", "gentle: it moves as those of speakers do"),
    Shown("blink", "A photo blinks"),
    Shown("strength", "Strength of the mouth"),
    Shown("seed", "Seed", "another number, another way for head and eyes to move"),
)
_STARTS = (("Best match", "match"), ("First frame", "first"), ("Most neutral", "auto"))
_OPENINGS = (("As they move", "none"), ("As the driver's", "driver"), ("Closed", "0"), ("Open", "0.35"))
_STEPS = {"scale": 0.1, "x": 0.005, "y": 0.005}  # of crops
_CHOICES = {**choices_of("speak"), **choices_of("animate")}
Widget = gr.Checkbox | gr.Dropdown | gr.Slider | gr.Number | gr.Textbox


def widgets(options: Sequence[Shown]) -> dict[str, Widget]:
    """A widget for each of some options, by its name, where they stand in the layout."""
    return {option.name: _widget(option) for option in options}


def grouped_widgets(leave_out: Sequence[str] = ()) -> dict[str, Widget]:
    """The widgets of all groups, one fold a group."""
    made: dict[str, Widget] = {}
    for title, group in GROUPS.items():
        if options := [option for option in group if option.name not in leave_out]:
            with gr.Accordion(title, open=False, elem_classes="lp-fold"):
                made |= widgets(options)
    return made


def changed(names: Sequence[str], values: Sequence[Any]) -> Mapping[str, object]:
    """The options that are not at their defaults, as `options_from` takes them."""
    given = dict(zip(names, values, strict=True))
    if not given.get("max_size", True):
        given["max_size"] = None
    return {name: value for name, value in given.items() if value != _default(name)}


def _default(name: str) -> Any:
    choice = _CHOICES[name]
    return "none" if choice.kind == Opening else choice.default


def _widget(option: Shown) -> Widget:
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
