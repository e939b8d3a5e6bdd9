"""The layout matches docs/reference/architecture.md: layers, no import cycles, few files per folder."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "measure_layout.py"
MAX_FILES, MAX_FILES_IN_FOLDER = 350, 15


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_layout", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


layout = _script()


@pytest.fixture(scope="module")
def imports() -> dict[str, frozenset[str]]:
    """Everything that each module imports, including inside functions and for types."""
    return layout.import_map()


def test_imports_run_downward(imports):
    assert layout.upward_imports(imports) == []


def test_no_module_imports_itself_indirectly(imports):
    assert layout.import_cycles(imports) == []


def test_folders_match_the_layers_and_none_is_crowded():
    folders = {path.name for path in layout.ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(layout.LEVEL)
    crowded = {
        name: count for name, count in layout.files_in_folders().items() if count > MAX_FILES_IN_FOLDER
    }
    assert crowded == {}
    assert len(layout.modules()) <= MAX_FILES


def test_import_analysis_finds_cycles_and_upward_imports(tmp_path):
    """A cycle of three, an upward import and one inside a function are found; imports for types count."""
    package = tmp_path / "liveportrait"
    (package / "media").mkdir(parents=True)
    (package / "motion").mkdir()
    files = {
        "__init__.py": "",
        "media/__init__.py": "",
        "media/a.py": "def late():\n    from liveportrait.motion import b\n",
        "motion/__init__.py": "",
        "motion/b.py": "from liveportrait.motion.c import x\n",
        "motion/c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from liveportrait.motion import d\n",
        "motion/d.py": "import liveportrait.motion.b\n",
    }
    for name, text in files.items():
        (package / name).write_text(text)
    found = layout.modules(package)
    imports = {name: layout.imports_of(path, found) - {name} for name, path in found.items()}
    names = [f"liveportrait.motion.{letter}" for letter in "bcd"]
    assert layout.import_cycles(imports) == [names]
    assert layout.upward_imports(imports) == ["liveportrait.media.a -> liveportrait.motion.b"]
    assert "liveportrait.motion.d" in layout.reach("liveportrait.media.a", imports)
    at_import = {name: layout.imports_of(path, found, lazy=False) for name, path in found.items()}
    assert layout.import_cycles(at_import) == []
