"""Builds the page that needs no server into a folder for any static host: `make web`.

    python -m liveportrait.apps.web.build dist --packages web/node_modules

The folder holds the page's own files, the networks as graphs for browsers, the bundled motions, ONNX Runtime and
mediabunny, and manifest.json, which names every file with its size and checksum, what goes in and out of each graph,
and the numbers that the program owns and the page needs.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg

from liveportrait import weights
from liveportrait.animation.compositor import weights_mark
from liveportrait.animation.source.base import MIN_SIDE
from liveportrait.animation.source.photo import PHOTO_SIDE
from liveportrait.apps.web.face_constants import face_constants
from liveportrait.apps.web.face_graphs import face_graphs
from liveportrait.apps.web.measure_constants import measure_constants
from liveportrait.apps.web.motion_constants import motion_constants
from liveportrait.apps.web.server import MANIFEST
from liveportrait.engine.export import DESCRIPTION, GENERATOR, export
from liveportrait.errors import UserError
from liveportrait.face.runtime import FOLDER as FACE_MODELS
from liveportrait.folders import replace_folder, unfinished_beside
from liveportrait.networks.compact.painter import CUES

PAGE = Path(__file__).with_name("page")
TEMPLATES = Path(__file__).parents[2] / "motion" / "templates"
WEIGHTS = "compact"
# What is taken of each package, and where it goes. Of ONNX Runtime a browser loads one pair of the three.
RUNTIMES = ("ort.wasm.min.mjs", "ort.jspi.min.mjs", "ort.webgpu.min.mjs")
BINARIES = ("ort-wasm-simd-threaded", "ort-wasm-simd-threaded.jspi", "ort-wasm-simd-threaded.asyncify")
PACKAGES = {
    "onnxruntime-web": [*RUNTIMES, *(f"{name}.{kind}" for name in BINARIES for kind in ("mjs", "wasm"))],
    "mediabunny": ["bundles/mediabunny.min.mjs"],
}
GRAPHS, MOTIONS, VENDOR = "graphs", "motions", "vendor"  # folders
PACKED = ".packed"  # of files that no host needs to compress, or unpacks by itself


def build(folder: Path, packages: Path, graphs: Path | None = None) -> Path:
    """Build the page into a folder, in place of one that was built before; returns the folder.

    `packages`: the node_modules in which `npm ci` put the runtimes; `graphs`: the folder of an export for browsers that
    was made before, None makes one of the bundled weights. Raises `UserError` where a package is missing, or the folder
    holds something else.
    """
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise UserError(f"{folder} exists and was not built by this: choose another name or remove it")
    if not folder.parent.is_dir():
        raise UserError(f"cannot write to {folder}: there is no folder {folder.parent}")
    with unfinished_beside(folder) as partial:
        shutil.copytree(PAGE, partial)
        _copy_packages(packages, partial / VENDOR)
        variant, described = _copy_graphs(graphs, partial / GRAPHS)
        (partial / MOTIONS).mkdir()
        for path in sorted(TEMPLATES.glob("*.safetensors")):
            shutil.copy(path, partial / MOTIONS)
        manifest = {
            "versions": {"liveportrait": version("liveportrait"), **_versions(packages)},
            "graphs": described,
            "generator": _present(partial, f"{GRAPHS}/{GENERATOR}{PACKED}"),
            "motions": {
                path.stem: f"{MOTIONS}/{path.name}" for path in sorted((partial / MOTIONS).iterdir())
            },
            "constants": _constants(variant),
            "files": {
                path.relative_to(partial).as_posix(): _told(path)
                for path in sorted(partial.rglob("*"))
                if path.is_file()
            },
        }
        (partial / MANIFEST).write_text(json.dumps(manifest) + "\n", encoding="utf-8")
        replace_folder(partial, folder)
    return folder


def _copy_packages(packages: Path, into: Path) -> None:
    into.mkdir()
    for name, files in PACKAGES.items():
        for file in files:
            source = packages / name / "dist" / file
            if not source.is_file():
                raise UserError(f"{source} is missing: run `npm ci --ignore-scripts` in the folder web")
            shutil.copy(source, into)
    shutil.copy(packages / "mediabunny" / "LICENSE", into / "LICENSE-mediabunny.txt")
    shutil.copy(FACE_MODELS / "LICENSE-Apache-2.0.txt", into)


def _versions(packages: Path) -> dict[str, str]:
    return {name: json.loads((packages / name / "package.json").read_text())["version"] for name in PACKAGES}


def _copy_graphs(graphs: Path | None, into: Path) -> tuple[str, dict[str, Any]]:
    """All graphs in one folder; returns the variant, and what goes in and out of each graph, with its file."""
    if graphs is None:
        export(weights.load(WEIGHTS), "web", into)
    else:
        shutil.copytree(graphs, into)
    told = json.loads((into / DESCRIPTION).read_text())
    described: dict[str, Any] = told["graphs"]
    (into / DESCRIPTION).unlink()
    for name, data in face_graphs():
        path = into / f"{name}.onnx"
        path.write_bytes(data)
        described[name] = _ports(path)
    for path in list(into.iterdir()):
        path.with_name(path.name + PACKED).write_bytes(packed(path.read_bytes()))
        path.unlink()
    return told["variant"], {
        name: {"file": f"{GRAPHS}/{name}.onnx{PACKED}", **ports} for name, ports in described.items()
    }


def packed(data: bytes) -> bytes:
    """Weights compressed, as `page/packing.js` unpacks them: every other byte first, since the upper halves of numbers
    in 16 bits are alike, then those between.
    """
    return gzip.compress(data[0::2] + data[1::2], 9, mtime=0)


def _ports(path: Path) -> dict[str, dict[str, list[int]]]:
    """What goes in and out of an ONNX file, with shapes."""
    import onnx

    graph: Any = onnx.load(path).graph
    stored = {tensor.name for tensor in graph.initializer}
    return {
        side: {
            value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
            for value in values
            if value.name not in stored
        }
        for side, values in (("inputs", graph.input), ("outputs", graph.output))
    }


def _present(folder: Path, name: str) -> str | None:
    return name if (folder / name).is_file() else None


def _constants(variant: str) -> dict[str, Any]:
    """The numbers that scripts need and the program owns."""
    return {
        "motion": motion_constants(),
        "face": face_constants(),
        "measures": measure_constants(),
        "photo": {"side": PHOTO_SIDE, "smallest": MIN_SIDE},
        "weights": {"mark": weights_mark(variant), "cues": CUES},
    }


def _told(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


@dataclass(frozen=True)
class _Build:
    """Build the page that needs no server."""

    folder: Positional[Path] = Path("dist")
    """where to"""
    packages: Path = Path("web/node_modules")
    """where `npm ci` put the runtimes"""
    graphs: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """an export for browsers that was made before; by default the bundled weights are exported"""


def main() -> None:
    """The command line of this file."""
    asked = tyro.cli(_Build)
    try:
        built = build(asked.folder, asked.packages, asked.graphs)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    size = sum(path.stat().st_size for path in built.rglob("*") if path.is_file())
    print(f"built {built}: {size / 1e6:.0f} MB, of which a browser loads a half")


if __name__ == "__main__":
    main()
