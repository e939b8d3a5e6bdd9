"""Print how the package is laid out: files, folders, import cycles, upward imports, and what an entry point imports.

    python scripts/measure_layout.py

Back ends are listed in a table and imported when chosen, so what an entry point imports is counted without and with
them. `tests/test_architecture.py` checks these figures with the functions below.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

PACKAGE = "liveportrait"
ROOT = Path(__file__).parents[1] / "src" / PACKAGE

# From the bottom to the top; layers in one row do not import each other.
LAYERS = (
    ("media", "networks"),
    ("weights", "marking"),
    ("face",),
    ("engine",),
    ("motion",),
    ("metrics",),
    ("data",),
    ("animation",),
    ("training", "evaluation"),
    ("apps",),
)
LEVEL = {layer: level for level, row in enumerate(LAYERS) for layer in row}

Imports = Mapping[str, frozenset[str]]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(path: Path, known: Iterable[str], lazy: bool = True) -> frozenset[str]:
    """The modules of the package that a file imports; without `lazy`, only those that its own import needs.

    A name imported from a package counts as the module that it is, or as the package.
    """
    known = set(known)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree) if lazy else _at_import(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in known else str(node.module))
    return frozenset(found)


def _at_import(tree: ast.Module) -> Iterable[ast.AST]:
    """The nodes that run when a module is imported: no function bodies, nothing that is only for type checkers."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)


def import_map(lazy: bool = True) -> dict[str, frozenset[str]]:
    """Each module's imports within the package; the package's own `__init__`, which is above all, counts as empty.

    Importing any module runs that `__init__` first, whose own imports are lazy.
    """
    found = modules()
    imports = {name: imports_of(path, found, lazy) - {name} for name, path in found.items()}
    return imports | {PACKAGE: frozenset()}


def import_cycles(imports: Imports) -> list[list[str]]:
    """Groups of modules that import one another, directly or indirectly (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(imports[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in imports:
        if name not in index:
            visit(name)
    return found


def layer_of(module: str) -> str | None:
    """The layer of a module; None for modules outside the layers."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LEVEL else None


def upward_imports(imports: Imports) -> list[str]:
    """Imports that go up, sideways between layers of one row, or from a layer to the package's own `__init__`."""
    found = []
    for module, others in imports.items():
        own = layer_of(module)
        for other in sorted(others):
            layer = layer_of(other)
            climbs = layer and own and layer != own and LEVEL[layer] >= LEVEL[own]
            front = other == PACKAGE and own
            outside = own is None and layer and module not in (PACKAGE, f"{PACKAGE}.__main__")
            if climbs or front or outside:
                found.append(f"{module} -> {other}")
    return found


def reach(entry: str, imports: Imports) -> set[str]:
    """All modules that an entry point imports, directly or indirectly, and the packages that contain them."""
    reached: set[str] = set()
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        waiting += imports[name]
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return reached


def files_in_folders(root: Path = ROOT) -> Counter[str]:
    """Python files in each folder."""
    return Counter(str(path.parent.relative_to(root)) for path in root.rglob("*.py"))


def main() -> None:
    """Print the figures."""
    sys.setrecursionlimit(10_000)
    imports = import_map()
    folder, most = files_in_folders().most_common(1)[0]
    print(f"files under src: {len(modules())}")
    print(f"most files in one folder: {most} ({folder})")
    print(
        f"import cycles, including lazy imports and those for types: {len(import_cycles(imports))}",
        *import_cycles(imports),
    )
    print(f"upward imports: {len(upward_imports(imports))}", *upward_imports(imports))
    for entry in ("apps.animate", "animation.animator", "animation.portrait"):
        reached = reach(f"{PACKAGE}.{entry}", imports)
        with_back_ends = reached.union(
            *(reach(name, imports) for name in imports if layer_of(name) == "engine")
        )
        print(f"files reached by {entry}: {len(reached)}; with all back ends: {len(with_back_ends)}")
        layers = Counter(layer_of(name) or "(outside the layers)" for name in reached)
        print("   " + ", ".join(f"{layer} {count}" for layer, count in layers.most_common()))


if __name__ == "__main__":
    main()
