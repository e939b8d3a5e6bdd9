"""Builds the page that needs no server into a folder for any static host: `make web`.

    python -m liveportrait.apps.web.build dist --packages web/node_modules

The folder holds the page's own files, the networks as graphs for browsers, the bundled motions, ONNX Runtime and
mediabunny, and manifest.json: every file with its size and checksum, the inputs and outputs of each graph, and the
constants that the page shares with the program.
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
# The files copied from each package; `.mjs` becomes `.js`, which every host knows. A browser loads one of the three
# pairs of ONNX Runtime.
RUNTIMES = ("ort.wasm.min.mjs", "ort.jspi.min.mjs", "ort.webgpu.min.mjs")
BINARIES = ("ort-wasm-simd-threaded", "ort-wasm-simd-threaded.jspi", "ort-wasm-simd-threaded.asyncify")
PACKAGES = {
    "onnxruntime-web": [*RUNTIMES, *(f"{name}.{kind}" for name in BINARIES for kind in ("mjs", "wasm"))],
    "mediabunny": ["bundles/mediabunny.min.mjs"],
}
GRAPHS, MOTIONS, VENDOR = "graphs", "motions", "vendor"  # folders
PACKED = ".packed"  # suffix of files that are compressed here, whatever the host does


def build(folder: Path, packages: Path, graphs: Path | None = None) -> Path:
    """Build the page into a folder, replacing an earlier build; returns the folder.

    `packages`: the node_modules in which `npm ci` put the runtimes; `graphs`: the folder of an existing export for
    browsers, None exports the bundled weights. Raises `UserError` if a package is missing or the folder holds something
    else.
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
                path.relative_to(partial).as_posix(): _size_and_digest(path)
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
            shutil.copy(source, into / source.name.replace(".mjs", ".js"))
    shutil.copy(packages / "mediabunny" / "LICENSE", into / "LICENSE-mediabunny.txt")
    shutil.copy(FACE_MODELS / "LICENSE-Apache-2.0.txt", into)


def _versions(packages: Path) -> dict[str, str]:
    return {name: json.loads((packages / name / "package.json").read_text())["version"] for name in PACKAGES}


def _copy_graphs(graphs: Path | None, into: Path) -> tuple[str, dict[str, Any]]:
    """Copy all graphs into one folder; returns the variant, and each graph's file, inputs and outputs."""
    if graphs is None:
        export(weights.load(WEIGHTS), "web", into)
    else:
        shutil.copytree(graphs, into)
    description = json.loads((into / DESCRIPTION).read_text())
    described: dict[str, Any] = description["graphs"]
    (into / DESCRIPTION).unlink()
    for name, data in face_graphs():
        path = into / f"{name}.onnx"
        path.write_bytes(data)
        described[name] = _ports(path)
    for path in list(into.iterdir()):
        path.with_name(path.name + PACKED).write_bytes(packed(path.read_bytes()))
        path.unlink()
    for name, facts in described.items():
        facts["file"] = f"{GRAPHS}/{name}.onnx{PACKED}"
        if "weights" in facts:
            facts["weights"] = f"{GRAPHS}/{facts['weights']}{PACKED}"
    return description["variant"], described


def packed(data: bytes) -> bytes:
    """Weights compressed for `page/packing.js`: first the bytes at even places, then those at odd places, since the
    upper bytes of float16 numbers resemble each other.
    """
    return gzip.compress(data[0::2] + data[1::2], 9, mtime=0)


def _ports(path: Path) -> dict[str, dict[str, list[int]]]:
    """Inputs and outputs of an ONNX file, with shapes."""
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
    """The constants that scripts share with the program."""
    return {
        "motion": motion_constants(),
        "face": face_constants(),
        "measures": measure_constants(),
        "photo": {"side": PHOTO_SIDE, "smallest": MIN_SIDE},
        "weights": {"mark": weights_mark(variant), "cues": CUES},
    }


def _size_and_digest(path: Path) -> dict[str, object]:
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
    """an existing export for browsers; by default the bundled weights are exported"""


def main() -> None:
    """The command line of this file."""
    asked = tyro.cli(_Build)
    try:
        built = build(asked.folder, asked.packages, asked.graphs)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    size = sum(path.stat().st_size for path in built.rglob("*") if path.is_file())
    print(f"built {built}: {size / 1e6:.0f} MB, of which a browser loads half")


if __name__ == "__main__":
    main()
