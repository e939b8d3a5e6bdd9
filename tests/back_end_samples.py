"""Networks with random weights, and their results on smooth pictures, to compare back ends."""

from __future__ import annotations

from typing import Any

import torch
from small_base import randomise, small_networks
from torch import Tensor

from liveportrait.engine import make_backend
from liveportrait.networks import Networks, build
from liveportrait.networks.compact.painter import CUES
from liveportrait.networks.geometry import pose_of
from liveportrait.networks.interface import Features, Layers, Motion, Pose
from liveportrait.networks.renderer import compose
from liveportrait.networks.variants import COMPACT

# Tolerances of float32 back ends, for pictures in [0, 1] and coordinates in [-1, 1], with these small networks. At
# BASE's full size OpenVINO and ONNX Runtime are within 2e-4 (docs/reference/backends.md).
TOLERANCE = 1e-4
HALF_PSNR = 45.0  # dB, in 16-bit precisions
HALF_TOLERANCE = 1e-2  # of coordinates, if M is in 16 bits too
M_IN_FLOAT32 = ("openvino", "winograd")  # in every precision


def both_variants() -> dict[str, Networks]:
    """The compact networks with the painter, and small networks of the published architecture."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        compact = build(COMPACT, painter=True)
    for seed, module in enumerate(compact.modules().values()):
        randomise(module, seed)
        module.eval().requires_grad_(False)
    return {"compact": compact, "base": small_networks()}


def run(backend: Any, networks: Networks, batch: int = 3) -> tuple[Motion, Layers, Tensor]:
    """Motions of smooth pictures, and the layers and pictures of the first one slightly moved."""
    size = networks.variant.input_size
    coarse = torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    pixels = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear").to(backend.device)
    with torch.no_grad():
        motion = backend.motion(pixels)
        features: Features = backend.appearance(pixels[:1])
        repeated = {name: value.expand(batch, *value.shape[1:]) for name, value in features.items()}
        layers = backend.render(repeated, *poses(batch, backend.device), cues(batch).to(backend.device))
        return motion, layers, compose(layers, repeated)


def check(name: str, precision: Any, networks: Networks) -> None:
    """Check that a back end matches the eager one within the tolerance of its precision."""
    backend, choice = make_backend(name, networks, precision)  # type: ignore[arg-type]
    assert (choice.backend, choice.precision, choice.reason) == (name, precision, "as requested")
    expected_motion, expected_layers, expected = run(make_backend("eager", networks)[0], networks)
    motion, layers, picture = run(backend, networks)
    assert [part.shape for part in layers] == [part.shape for part in expected_layers]
    assert picture.dtype == torch.float32 and picture.shape == expected.shape
    assert expected.std() > 0.01  # a uniform picture would match anything
    exact = precision == "fp32" or name in M_IN_FLOAT32
    tolerance = TOLERANCE if exact else HALF_TOLERANCE
    for part, wanted in zip(motion, expected_motion, strict=True):
        torch.testing.assert_close(part, wanted, atol=tolerance, rtol=tolerance)
    if precision == "fp32":
        for made, wanted in zip((*layers, picture), (*expected_layers, expected), strict=True):
            torch.testing.assert_close(made, wanted, atol=TOLERANCE, rtol=0)
    else:
        assert -10 * torch.log10((picture - expected).square().mean()) >= HALF_PSNR


def cues(batch: int) -> Tensor:
    """Random mouth cues (batch,5)."""
    return torch.rand(batch, CUES, generator=torch.Generator().manual_seed(3))


def poses(batch: int, device: torch.device) -> tuple[Pose, Pose]:
    generator = torch.Generator().manual_seed(2)
    canonical = torch.rand(1, 21, 3, generator=generator) - 0.5
    motions = []
    for reach in (0.0, 0.05):
        expression = reach * torch.randn(batch, 21, 3, generator=generator)
        turn = reach * torch.randn(batch, 3, 3, generator=generator)
        rotation = torch.linalg.matrix_exp(turn - turn.transpose(1, 2))
        shift = reach * torch.randn(batch, 3, generator=generator)
        scale = 1 + reach * torch.rand(batch, 1, generator=generator)
        motions.append(Motion(rotation, shift, scale, canonical.expand(batch, 21, 3), expression))
    source, driving = (pose_of(motion.to(device)) for motion in motions)
    return source, driving
