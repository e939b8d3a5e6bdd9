"""Code must not use loaders that run code, shells, code from text, or the network. Ruff checks the rest."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = ("src", "scripts", "benchmarks", "integrations", "docs")

CALLS = {  # by full name, whatever they were imported as
    "runs the code of a file": {
        "pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "dill.loads", "cloudpickle.load",
        "cloudpickle.loads", "joblib.load", "shelve.open", "marshal.load", "marshal.loads",
        "pandas.read_pickle", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load",
        "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter",
    },
    "runs text as code": {"eval", "exec", "builtins.eval", "builtins.exec", "runpy.run_path", "code.interact"},
    "gives a line to a shell": {
        "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
        "asyncio.create_subprocess_shell",
    },
}  # fmt: skip
NETWORK = {  # modules that open connections
    "aiohttp", "ftplib", "http.client", "httpx", "httpcore", "huggingface_hub", "requests", "smtplib", "socket",
    "telnetlib", "urllib.request", "urllib3", "websocket", "websockets", "xmlrpc",
}  # fmt: skip
MAY_LOAD_TORCH = {"src/liveportrait/weights/published.py"}
MAY_CONNECT = {
    "src/liveportrait/weights/download.py": "fetches weights when it is asked to",
    "src/liveportrait/weights/catalogue.py": "names the hub's errors",
    "src/liveportrait/apps/server/client.py": "the service's client",
    "src/liveportrait/apps/live/client.py": "the live stream's client",
    "src/liveportrait/apps/serve.py": "listens",
    "src/liveportrait/folders.py": "asks for this machine's name",
    "benchmarks/service_load.py": "measures the service on this machine",
    "benchmarks/live_stream.py": "measures the service on this machine",
}


def imported(tree: ast.AST) -> dict[str, str]:
    """The full names of a module's imports: `np` is "numpy", `load` is "torch.load"."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else (alias.name.partition(".")[0])
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything imported; of `from a import b` also "a.b"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """The full name of a called function, if it is a name: "numpy.load"."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def keyword(call: ast.Call, name: str) -> object:
    """The constant value of a keyword argument: None if it is missing, "?" if it is not a constant."""
    for each in call.keywords:
        if each.arg == name:
            return each.value.value if isinstance(each.value, ast.Constant) else "?"
    return None


def forbidden_call(call: ast.Call, names: dict[str, str], may_load_torch: bool) -> str:
    """Why a call is forbidden; an empty string if it is not."""
    name = dotted(call.func, names)
    for why, calls in CALLS.items():
        if name in calls:
            return f"{name} {why}"
    if name == "torch.load" and not may_load_torch:
        return "torch.load belongs into weights/published.py"
    if name == "torch.load" and keyword(call, "weights_only") is not True:
        return "torch.load without weights_only=True"
    if keyword(call, "weights_only") not in (None, True):
        return "weights_only is not True"
    if name in ("numpy.load", "numpy.lib.format.read_array") and keyword(call, "allow_pickle") not in (
        None,
        False,
    ):
        return "allow_pickle runs the code of a file"
    if keyword(call, "shell") not in (None, False):
        return "shell=True gives a line to a shell"
    if keyword(call, "trust_remote_code") not in (None, False):
        return "trust_remote_code runs code of the network"
    if name.endswith(".extractall") and keyword(call, "filter") != "data":
        return "an archive is unpacked without filter='data'"
    return ""


def offences(text: str, file: str = "x.py") -> list[str]:
    """The forbidden code in a module, as "line: what"."""
    tree, found = ast.parse(text), []
    names = imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (why := forbidden_call(node, names, file in MAY_LOAD_TORCH)):
            found.append(f"{node.lineno}: {why}")
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"{node.lineno}: a bare except also takes what ends the program")
    if file not in MAY_CONNECT:
        for line, module in modules(tree):
            if any(module == each or module.startswith(f"{each}.") for each in NETWORK):
                found.append(f"{line}: {module} opens connections")
    return found


def sources() -> Iterator[tuple[str, str]]:
    """Path and text of every shipped module, and of the notebooks' cells."""
    for folder in SHIPPED:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        for path in sorted((ROOT / folder).rglob("*.ipynb")):
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            lines = [
                line for cell in cells if cell["cell_type"] == "code" for line in [*cell["source"], "\n"]
            ]
            yield (
                str(path.relative_to(ROOT)),
                "".join(line for line in lines if not line.startswith(("!", "%"))),
            )


def test_no_forbidden_code_is_shipped():
    seen = dict(sources())
    found = [f"{file}:{each}" for file, text in seen.items() for each in offences(text, file)]
    assert not found, "\n".join(found)
    assert len(seen) > 250
    needless = [file for file in MAY_LOAD_TORCH | MAY_CONNECT.keys() if not offences(seen.get(file, ""))]
    assert not needless, "these need no exception"


@pytest.mark.parametrize(
    "line",
    [
        "import pickle; pickle.load(file)",
        "from pickle import loads as read; read(data)",
        "import dill; dill.loads(data)",
        "import joblib; joblib.load(path)",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "import numpy as np; np.load(path, allow_pickle=allowed)",
        "import yaml; yaml.load(text)",
        "import torch; torch.load(path, weights_only=True)",
        "from torch import load; load(path)",
        "read(path, weights_only=False)",
        "import subprocess; subprocess.run(line, shell=True)",
        "import os; os.system(line)",
        "eval(text)",
        "exec(text)",
        "try:\n    pass\nexcept:\n    pass",
        "import tarfile; tarfile.open(path).extractall(folder)",
        "archive.extractall(folder, filter='fully_trusted')",
        "import requests",
        "from urllib import request",
        "import urllib.request as web",
        "from urllib.request import urlopen",
        "import huggingface_hub",
        "import socket",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
    ],
)  # fmt: skip
def test_forbidden_code_is_detected(line):
    assert len(offences(line)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "import pickle; pickle.dumps(value)",
        "model.eval()",
        "import numpy as np; np.load(path)",
        "from safetensors.torch import load; load(data)",
        "import subprocess; subprocess.run(line, shell=False)",
        "archive.extractall(folder, filter='data')",
        "from urllib.parse import urlsplit",
        "try:\n    pass\nexcept OSError:\n    pass",
    ],
)
def test_harmless_code_is_accepted(line):
    assert offences(line) == []


def test_checkpoints_are_loaded_as_tensors_only():
    (file,) = MAY_LOAD_TORCH
    text = (ROOT / file).read_text(encoding="utf-8")
    assert text.count("torch.load(") == 1
    assert offences(text.replace("weights_only=True", "weights_only=False"), file)
