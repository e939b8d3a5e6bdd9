"""Writes docs/reference/options.md: every option of the command line, from the dataclasses that define them.

python scripts/make_options_reference.py
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from tyro.conf import OmitArgPrefixes, Positional, arg, subcommand

from liveportrait.apps.cli import Command

WIDTH = 100
OUT = Path(__file__).parents[1] / "docs/reference/options.md"
HEAD = """\
# Options

Every command and option of the command line. `scripts/make_options_reference.py` generates this
page from the dataclasses that Python uses too. In Python the names have `_` in place of `-`, and
those of a group within another are fields of a field: `--lip-opening 0.2` is
`AnimateOptions(retarget=RetargetOptions(lip_opening=0.2))`. A flag such as `--no-crop` is
`crop=False`.
"""
_Argument, _Subcommand = type(arg()), type(subcommand("name"))
_WORDS = {int: "whole number", float: "number", str: "text", Path: "path"}


class Option(NamedTuple):
    """A row of the reference."""

    group: type | None
    spelled: str
    values: str
    default: str
    meaning: str


def reference() -> str:
    """The whole page."""
    parts = [HEAD]
    told: dict[tuple[Option, ...], str] = {}  # groups of options that several commands share
    for name, command in commands(Command):
        parts += [f"## `liveportrait {name}`\n", f"{paragraph(command)}\n"]
        rows = list(options(command))
        for group in dict.fromkeys(row.group for row in rows):
            members = tuple(row for row in rows if row.group == group)
            if group:
                parts += [f"### `{group.__name__}`\n", f"{paragraph(group)}\n"]
            if told.setdefault(members, name) != name:
                parts.append(f"As for `liveportrait {told[members]}`.\n")
                continue
            parts += ["| option | values | default | meaning |", "|---|---|---|---|"]
            parts += [f"| {' | '.join(row[1:])} |" for row in members]
            parts.append("")
    return "\n".join(parts)


def commands(union: Any, prefix: str = "") -> Iterator[tuple[str, type]]:
    """Name and dataclass of every command, those of nested ones such as `weights list` one by one."""
    for member in get_args(union):
        command, *marks = get_args(member)
        name = prefix + next(mark.name for mark in marks if isinstance(mark, _Subcommand))
        nested = [
            hint for hint in get_type_hints(command, include_extras=True).values() if is_subcommands(hint)
        ]
        if nested:
            yield from commands(bare(nested[0]), f"{name} ")
        else:
            yield name, command


def options(cls: type, prefix: str = "", group: type | None = None, flat: bool = False) -> Iterator[Option]:
    """The options of a dataclass, those of the dataclasses inside it after its own."""
    hints = get_type_hints(cls, include_extras=True)
    documented = docstrings(cls)
    inner: list[tuple[type, str, bool]] = []
    for field in dataclasses.fields(cls):
        kind, marks = bare(hints[field.name]), get_args(hints[field.name])[1:]
        if dataclasses.is_dataclass(kind):
            # What is marked so has no prefix, nor has any group within it.
            omitted = flat or OmitArgPrefixes in marks
            inner.append((kind, prefix if omitted else f"{prefix}{field.name}.", omitted))
            continue
        owner, meaning = documented[field.name]
        settings = next((mark for mark in marks if isinstance(mark, _Argument)), None)
        written_in = group if owner is cls else owner
        default = default_of(field)
        name = (prefix + field.name).replace("_", "-")
        if Positional in marks:
            spelled, values = f"`{settings.metavar if settings else name.upper()}`", words(kind)
        elif kind is bool:
            off, values = default is True, "flag"
            spelled = f"`--{prefix}{'no-' if off else ''}{name.removeprefix(prefix)}`"
        else:
            aliases = list(settings.aliases or ()) if settings else []
            spelled, values = ", ".join(f"`{each}`" for each in [f"--{name}", *aliases]), words(kind)
        yield Option(written_in, spelled, values, shown(default, kind), meaning.replace("|", "\\|"))
    for kind, inner_prefix, omitted in inner:
        yield from options(kind, inner_prefix, kind, omitted)


def docstrings(cls: type) -> dict[str, tuple[type, str]]:
    """For every field, the class that defines it and the string below its definition."""
    found: dict[str, tuple[type, str]] = {}
    for owner in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(owner):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for statement, below in zip(body, [*body[1:], ast.Pass()], strict=True):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = ""
                if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                    text = " ".join(str(below.value.value).split())
                found[statement.target.id] = owner, text
    return found


def is_subcommands(hint: Any) -> bool:
    """Whether a field holds one of several commands."""
    members = get_args(bare(hint))
    return any(isinstance(mark, _Subcommand) for member in members for mark in get_args(member)[1:])


def bare(hint: Any) -> Any:
    """A type without its annotations."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def words(kind: Any) -> str:
    """The values that a type takes, in words."""
    origin = get_origin(kind)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if origin in (Union, UnionType):
        members = [words(member) for member in get_args(kind) if member is not NoneType]
        return (", " if all(get_origin(member) is Literal for member in get_args(kind)) else " or ").join(
            members
        )
    if origin is tuple:
        return f"{words(get_args(kind)[0])}, one or more"
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def default_of(field: dataclasses.Field[Any]) -> Any:
    """A field's default, or MISSING."""
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def shown(default: Any, kind: Any) -> str:
    """A default as the table shows it."""
    if default is dataclasses.MISSING:
        return "required"
    if kind is bool or default is None or default in ("", ()):
        return ""
    return f"`{' '.join(map(str, default)) if isinstance(default, tuple) else default}`"


def paragraph(cls: type) -> str:
    """The first paragraph of a class's docstring, wrapped."""
    return textwrap.fill(inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0], WIDTH)


if __name__ == "__main__":
    OUT.write_text(reference(), encoding="utf-8")
    print(f"wrote {OUT}")
