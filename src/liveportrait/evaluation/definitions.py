"""The measures of the protocols: name, version of the definition, unit, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", "one", "zero"]


@dataclass(frozen=True)
class Definition:
    """A measure, as docs/notes/evaluation-definitions.md defines it.

    The version grows when its numbers change meaning.
    """

    name: str
    unit: str
    better: Better
    version: int = 1

    @property
    def identifier(self) -> str:
        """As the results name it."""
        return f"{self.name}/{self.version}"


DEFINITIONS = {
    definition.name: definition
    for definition in (
        Definition("landmarks", "eye-corner distances", "lower"),
        Definition("psnr", "dB", "higher"),
        Definition("ssim", "", "higher"),
        Definition("l1", "of the range", "lower"),
        Definition("perceptual", "", "lower"),
        Definition("fid", "", "lower"),
        Definition("csim_distance", "embedding", "lower"),
        Definition("csim", "cosine", "higher"),
        Definition("blendshapes", "score", "lower"),
        Definition("blendshape_change", "score", "lower"),
        Definition("head_pose", "degrees", "lower"),
        Definition("head_pose_change", "degrees", "lower"),
        Definition("gaze", "degrees", "lower"),
        Definition("gaze_change", "degrees", "lower"),
        Definition("eyes", "correlation", "higher"),
        Definition("jaw", "correlation", "higher"),
        Definition("expression_curves", "correlation", "higher"),
        Definition("head_pose_curves", "correlation", "higher"),
        Definition("sharpness", "share", "one"),
        Definition("jitter", "share of the driver's", "one"),
        Definition("shape_jitter", "share of the driver's", "one"),
        Definition("scale_wobble", "percent", "lower"),
        Definition("seam_energy", "grey levels a px", "zero"),
        Definition("shoulders", "percent of the crop", "lower"),
        Definition("shoulders_stitched", "share of unstitched", "lower"),
        Definition("background", "percent of the crop", "lower"),
        Definition("eye_control", "opening", "lower"),
        Definition("lip_control", "opening", "lower"),
        Definition("eye_response", "correlation", "higher"),
        Definition("lip_response", "correlation", "higher"),
        Definition("found", "share", "higher"),
    )
}
