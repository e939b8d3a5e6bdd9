"""Make `weights/voice/listener.safetensors` from whisper-tiny.en and speech shards.

    python scripts/make_listener.py MODEL.bin OUT.safetensors 'speech/*.tar'

MODEL.bin is the model in CTranslate2's format, float16 (`faster-whisper` downloads it). Its first layers are used
unchanged; the projection is onto principal components of the training people's sound, scaled to unit variance.
"""

from __future__ import annotations

import argparse
import glob
import struct
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from liveportrait.data.speech import read_clips
from liveportrait.motion.voice.features import ListenerStream
from liveportrait.networks.voice.speech import CODES, Listener

TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
ONE_IN = 12  # identities is held out
MIN_DEVIATION = 1e-3  # added to standard deviations, for features that never change
LAYER = "encoder/layer_0"
NAMES = {
    "first": "encoder/conv1", "second": "encoder/conv2",
    "attention_norm": f"{LAYER}/self_attention/layer_norm", "inner_norm": f"{LAYER}/ffn/layer_norm",
    "attended": f"{LAYER}/self_attention/linear_0", "gathered": f"{LAYER}/self_attention/linear_1",
    "inner": f"{LAYER}/ffn/linear_0", "outer": f"{LAYER}/ffn/linear_1",
}  # fmt: skip


def read_model(path: Path) -> dict[str, Tensor]:
    """The tensors of a model converted by CTranslate2."""
    content, place = path.read_bytes(), 0

    def number(kind: str) -> int:
        nonlocal place
        (found,) = struct.unpack_from(f"<{kind}", content, place)
        place += struct.calcsize(f"<{kind}")
        return int(found)

    def text() -> str:
        nonlocal place
        length = number("H")
        place += length
        return content[place - length : place].rstrip(b"\0").decode()

    number("I"), text(), number("I")  # version, kind and its revision
    found = {}
    for _ in range(number("I")):
        name, shape = text(), [number("I") for _ in range(number("B"))]
        kind, size = np.dtype(TYPES[number("B")]), number("I")
        values = np.frombuffer(content, kind, size // kind.itemsize, place).reshape(shape)
        found[name] = torch.from_numpy(values.astype(np.float32))
        place += size
    return found


def fill(listener: Listener, model: dict[str, Tensor]) -> None:
    """Copy a model's layers into a listener."""
    for name, stored in NAMES.items():
        module = getattr(listener, name)
        weight, bias = ("gamma", "beta") if isinstance(module, nn.LayerNorm) else ("weight", "bias")
        module.weight.data.copy_(model[f"{stored}/{weight}"])
        module.bias.data.copy_(model[f"{stored}/{bias}"])


def main() -> None:
    """Convert the model and compute the projection."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("shards", help="a glob pattern")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    listener = Listener().eval().requires_grad_(False)
    fill(listener, read_model(arguments.model))
    hidden: list[Tensor] = []
    watch = listener.project.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0][::2]))
    for clip in read_clips(map(Path, sorted(glob.glob(arguments.shards))), ONE_IN, held_out=False):
        ListenerStream(listener).feed(clip.sound)
    watch.remove()
    rows = torch.cat(hidden).double()
    mean, deviation = rows.mean(0), rows.std(0) + MIN_DEVIATION
    power, axes = torch.linalg.eigh(torch.cov(((rows - mean) / deviation).T))
    matrix = (axes / power.sqrt()).T[-CODES:].flip(0) / deviation
    listener.project.weight.data.copy_(matrix)
    listener.project.bias.data.copy_(-matrix @ mean)
    state = {
        key: value.half().contiguous() if value.ndim > 1 else value.contiguous()
        for key, value in listener.state_dict().items()
    }
    save_file(state, arguments.out)
    arguments.out.chmod(0o644)
    print(
        f"{len(rows)} moments, {float(power[-CODES:].sum() / power.sum()):.3f} of their variance in {CODES} codes"
    )


if __name__ == "__main__":
    main()
