"""The nodes. Networks and back ends are loaded when a node runs, not when ComfyUI starts."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import liveportrait
from liveportrait import DriveOptions, Sliders, SourceOptions, UserError

from .host import Audio, Progress, cut, folder, plain_tensors, stop_if_asked, to_arrays, to_image
from .widgets import Widget, option_widgets, slider_values, slider_widgets

if TYPE_CHECKING:
    from liveportrait import Animator, Portrait, Rendering, Template

NETWORKS, PORTRAIT, MOTION = "LIVEPORTRAIT_NETWORKS", "LIVEPORTRAIT_PORTRAIT", "LIVEPORTRAIT_MOTION"
CATEGORY = "LivePortrait"

Inputs = dict[str, dict[str, Widget]]


def fps_widget(tooltip: str) -> Widget:
    """A frame rate in frames per second."""
    return "FLOAT", {"default": 25.0, "min": 1.0, "max": 240.0, "step": 0.001, "tooltip": tooltip}


class LivePortraitLoad:
    """The networks and the face tracker."""

    TITLE = "Load LivePortrait"
    CATEGORY = CATEGORY
    FUNCTION = "load"
    RETURN_TYPES = (NETWORKS,)
    RETURN_NAMES = ("networks",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "weights": ("STRING", {"default": "compact", "tooltip": "name of the weights, or a folder"}),
                "device": (["auto", "cpu", "cuda", "mps"], {"default": "auto"}),
            }
        }

    def load(self, weights: str, device: str) -> tuple[Animator]:
        with plain_tensors():
            return (animator(weights, device),)


@lru_cache(maxsize=1)
def animator(weights: str, device: str) -> Animator:
    """An animator; the last one is cached."""
    return liveportrait.Animator.load(weights, device)


class LivePortraitOpen:
    """A photo, or the frames of a video, with its faces found and measured."""

    TITLE = "Open Portrait"
    CATEGORY = CATEGORY
    FUNCTION = "open"
    RETURN_TYPES = (PORTRAIT,)
    RETURN_NAMES = ("portrait",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        numbers = {
            "crop_scale": (1.0, 10.0),
            "crop_x": (-1.0, 1.0),
            "crop_y": (-1.0, 1.0),
            "smooth": (0.0, 1.0),
        }
        return {
            "required": {
                "networks": (NETWORKS, {}),
                "images": ("IMAGE", {"tooltip": "one image is a photo, several are video frames"}),
                "fps": fps_widget("frame rate of a video"),
                **option_widgets(SourceOptions, numbers, ("faces", "subject", "crop")),
            }
        }

    def open(self, networks: Animator, images: torch.Tensor, fps: float, **options: Any) -> tuple[Portrait]:
        pictures = to_arrays(images)
        source = pictures[0] if len(pictures) == 1 else liveportrait.FrameArrays(pictures, fps)
        with plain_tensors():
            return (networks.open(source, SourceOptions(**options), Progress()),)


class LivePortraitAnimate:
    """The portrait, moved by driving images or a motion."""

    TITLE = "Animate Portrait"
    CATEGORY = CATEGORY
    FUNCTION = "animate"
    RETURN_TYPES = ("IMAGE", "FLOAT", "AUDIO")
    RETURN_NAMES = ("images", "fps", "audio")

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        numbers = {"multiplier": (0.0, 4.0), "expression_strength": (0.0, 2.0), "smooth": (0.0, 1.0)}
        words = ("region", "motion", "mouth", "lock_head", "stitching", "crop_driving", "paste_back")
        return {
            "required": {
                "portrait": (PORTRAIT, {}),
                "fps": fps_widget("frame rate of the driving images"),
                "max_frames": ("INT", {"default": 0, "min": 0, "max": 1_000_000, "tooltip": "0: no limit"}),
                **option_widgets(DriveOptions, numbers, words),
            },
            "optional": {
                "driving": ("IMAGE", {"lazy": True}),
                "motion_template": (MOTION, {"tooltip": "replaces the driving images"}),
                "audio": ("AUDIO", {}),
            },
        }

    def check_lazy_status(self, motion_template: Template | None = None, **others: Any) -> list[str]:
        """Ask for driving images only if there is no motion."""
        return (
            ["driving"]
            if motion_template is None and "driving" in others and others["driving"] is None
            else []
        )

    def animate(
        self,
        portrait: Portrait,
        fps: float,
        max_frames: int,
        driving: torch.Tensor | None = None,
        motion_template: Template | None = None,
        audio: Audio | None = None,
        **options: Any,
    ) -> tuple[torch.Tensor, float, Audio | None]:
        driver: Any = motion_template
        if driver is None:
            if driving is None:
                raise UserError("nothing drives the portrait: connect driving images or a motion")
            pictures = to_arrays(driving)
            driver = pictures[0] if len(pictures) == 1 else liveportrait.FrameArrays(pictures, fps)
        with plain_tensors(), portrait.drive(driver, DriveOptions(**options), Progress()) as frames:
            images = collect(frames, max_frames)
            rate = float(frames.fps)
        return images, rate, cut(audio, len(images) / rate)


class LivePortraitEdit:
    """The portrait with expression, gaze and pose set by sliders."""

    TITLE = "Edit Portrait"
    CATEGORY = CATEGORY
    FUNCTION = "edit"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("images",)

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {"required": {"portrait": (PORTRAIT, {}), **slider_widgets()}}

    def edit(self, portrait: Portrait, **sliders: float) -> tuple[torch.Tensor]:
        with plain_tensors(), portrait.edit_frames(Sliders(**slider_values(sliders)), Progress()) as frames:
            return (collect(frames),)


class LivePortraitLoadMotion:
    """A motion template: a bundled one, or a file."""

    TITLE = "Load Motion"
    CATEGORY = CATEGORY
    FUNCTION = "load"
    RETURN_TYPES = (MOTION, "FLOAT")
    RETURN_NAMES = ("motion_template", "fps")

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        from liveportrait.motion import bundled_templates

        files = (path for suffix in ("safetensors", "pkl") for path in folder("input").glob(f"*.{suffix}"))
        return {"required": {"name": ([*bundled_templates(), *sorted(path.name for path in files)], {})}}

    @classmethod
    def IS_CHANGED(cls, name: str) -> str:
        """Modification time and size of a file: it is read again when they change."""
        path = folder("input") / name
        return f"{path.stat().st_mtime_ns} {path.stat().st_size}" if path.is_file() else name

    @classmethod
    def VALIDATE_INPUTS(cls, name: str) -> bool | str:
        """Whether the motion exists; files are read only from the input folder itself."""
        from liveportrait.motion import bundled_templates

        known = name in bundled_templates() or (
            Path(name).name == name and (folder("input") / name).is_file()
        )
        return known or f"there is no motion {name!r}: put its file into ComfyUI's input folder"

    def load(self, name: str) -> tuple[Template, float]:
        from liveportrait.motion import bundled_templates, read_template

        with plain_tensors():
            template = bundled_templates().get(name) or read_template(folder("input") / Path(name).name)
        return template, float(template.fps)


class LivePortraitSaveMotion:
    """The motion of driving images, saved as a template."""

    TITLE = "Save Motion"
    CATEGORY = CATEGORY
    FUNCTION = "save"
    RETURN_TYPES = (MOTION,)
    RETURN_NAMES = ("motion_template",)
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> Inputs:
        return {
            "required": {
                "networks": (NETWORKS, {}),
                "driving": ("IMAGE", {}),
                "fps": fps_widget("frame rate of the driving images"),
                "name": ("STRING", {"default": "motion"}),
                "crop_driving": ("BOOLEAN", {"default": True}),
            }
        }

    def save(
        self, networks: Animator, driving: torch.Tensor, fps: float, name: str, crop_driving: bool
    ) -> dict[str, Any]:
        from liveportrait.motion import read_template

        if Path(name).name != name or name.startswith("."):
            raise UserError(f"name is {name!r}: give a plain file name, without a folder")
        number, path = 1, folder("output") / f"{name}.safetensors"
        while path.exists():
            number += 1
            path = path.with_name(f"{name}-{number}.safetensors")
        with plain_tensors():
            networks.template(
                liveportrait.FrameArrays(to_arrays(driving), fps), path, crop_driving, progress=Progress()
            )
            return {"ui": {"text": [str(path)]}, "result": (read_template(path),)}


def collect(frames: Rendering, max_frames: int = 0) -> torch.Tensor:
    """All frames, or the first `max_frames`, as IMAGE."""
    count = min(frames.total, max_frames or frames.total)
    images: torch.Tensor | None = None
    made = 0
    for frame in frames:
        if made == count:
            break
        stop_if_asked()
        image = to_image(frame)
        if images is None:
            images = image.new_empty(count, *image.shape)
        images[made] = image
        made += 1
    if images is None:
        raise UserError("the result has no frames: give a longer driver")
    return images[:made]


NODES = (
    LivePortraitLoad,
    LivePortraitOpen,
    LivePortraitAnimate,
    LivePortraitEdit,
    LivePortraitLoadMotion,
    LivePortraitSaveMotion,
)
