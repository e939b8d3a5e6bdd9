"""What should stand still while a source moves: its shoulders, its background, the border of the pasted crop."""

from __future__ import annotations

import numpy as np

from liveportrait.evaluation.clips import Still
from liveportrait.evaluation.driving import compared
from liveportrait.evaluation.tracks import Track
from liveportrait.face import Face
from liveportrait.face.paste import Paster
from liveportrait.metrics.displacement import Seam, background_region, displacement, shoulder_region
from liveportrait.metrics.images import Array, Picture


class Scene:
    """A source, against which its moving pictures are held."""

    def __init__(self, source: Still, face: Face) -> None:
        self._source, self._face = source, face
        self._seam = Seam(source.whole, source.window)
        self._paster = Paster(source.window, source.whole.shape)

    def disturbance(self, rendered: Picture, track: Track) -> dict[str, Array]:
        """Displacements and seam energy, a number (T,) a frame, of pictures (T,S,S,3) with their track."""
        seams = [self._seam.energy(self._paster.paste(picture, self._source.whole)) for picture in rendered]
        pictures, size = compared(rendered), len(self._source.face)
        shoulders: list[float] = []
        background: list[float] = []
        for picture, own in zip(pictures, track.faces, strict=True):
            faces = [self._face.landmarks] if own is None else [self._face.landmarks, own.landmarks]
            for found, region in ((shoulders, shoulder_region), (background, background_region)):
                found.append(displacement(self._source.face, picture, region(size, faces)))
        values = {"shoulders": shoulders, "background": background, "seam_energy": seams}
        return {name: np.array(each, np.float32) for name, each in values.items()}

    @staticmethod
    def undisturbed(count: int) -> dict[str, Array]:
        """Of the source itself, `count` times: nothing moves."""
        return {name: np.zeros(count, np.float32) for name in ("shoulders", "background", "seam_energy")}
