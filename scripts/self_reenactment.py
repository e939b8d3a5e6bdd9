"""Self-reenactment figures of weights on the held-out identities of shards, beside two baselines.

    python scripts/self_reenactment.py compact 'data/video/*.tar' --hold-out-one-in 12 --stride 1

Prints one JSON line a method; `--sheet` draws source, driving frame and output of every clip.
"""

from __future__ import annotations

import argparse
import glob
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from liveportrait import weights
from liveportrait.data.shards import Sample, read_shard
from liveportrait.engine import Engine
from liveportrait.evaluation.self_reenactment import Clip, render_clip, self_reenactment
from liveportrait.face import FaceAnalyzer
from liveportrait.face.blendshapes import EYE_BLINK, JAW_OPEN
from liveportrait.media import contact_sheet, save_image
from liveportrait.training.corpus import is_held_out


def held_out(patterns: list[str], one_in: int) -> Iterator[Sample]:
    """The clips of held-out identities."""
    for pattern in patterns:
        for path in sorted(glob.glob(pattern)):
            yield from (s for s in read_shard(Path(path)) if s.is_video and is_held_out(s.identity, one_in))


def sheet_row(engine: Engine, sample: Sample) -> list[np.ndarray]:
    """Source, then driving frame and output at the widest eyes' change, jaw and turn of the head."""
    frames = sample.frames()
    shapes, start = sample.blendshapes, sample.rotation[0]
    moments = [
        int(np.abs(shapes[:, EYE_BLINK].mean(1) - shapes[0, EYE_BLINK].mean()).argmax()),
        int(np.abs(shapes[:, JAW_OPEN] - shapes[0, JAW_OPEN]).argmax()),
        int(np.abs(sample.rotation - start).sum((1, 2)).argmax()),
    ]
    chosen = frames[[0, *moments]]
    outputs = render_clip(engine, chosen)
    return [frames[0], *(tile for n in range(1, 4) for tile in (chosen[n], outputs[n]))]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights")
    parser.add_argument("shards", nargs="+")
    parser.add_argument("--hold-out-one-in", type=int, default=12)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    engine = Engine(weights.load(options.weights), precision="bf16")
    samples = list(held_out(options.shards, options.hold_out_one_in))
    if options.sheet:
        save_image(
            options.sheet, contact_sheet([sheet_row(engine, s) for s in samples], cell=160), overwrite=True
        )
    clips = (Clip(sample.key, sample.frames()) for sample in samples)
    figures = self_reenactment(engine, FaceAnalyzer(), clips, options.stride)
    about = {
        "clips": len(samples),
        "identities": len({s.identity for s in samples}),
        "stride": options.stride,
    }
    for method, values in figures.items():
        print(json.dumps({"method": method} | {k: round(v, 4) for k, v in values.items()} | about))


if __name__ == "__main__":
    main()
