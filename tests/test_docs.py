"""README and docs agree with the program: commands parse, paths and links exist, generated pages are up to date."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tyro
from animation_samples import driving_frames, portrait, write_video

import liveportrait
from liveportrait.apps.cli import Command
from liveportrait.media import save_image

ROOT = Path(__file__).parents[1]
INDEX = ROOT / "docs/README.md"
PAGES = sorted((ROOT / "docs").rglob("*.md"))
README = ROOT / "README.md"
TEXTS = [README, *sorted((ROOT / "src").rglob("*.md")), *PAGES]
WIDTH = 100  # characters per line of prose

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"\b(?:configs|scripts|docs|src|benchmarks|tests)/[\w./-]*\w")
SHELL = ("", "sh", "bash")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of every `liveportrait ...` line in shell blocks; lines that end in a backslash are joined."""
    for _, language, body in FENCE.findall(text):
        if language in SHELL:
            for arguments in re.findall(
                r"^(?:.* -m )?liveportrait (.+)$", body.replace("\\\n", " "), re.MULTILINE
            ):
                yield shlex.split(arguments, comments=True)


def anchors(text: str) -> set[str]:
    """The anchors of headings, as Git hosts derive them."""
    prose = FENCE.sub("", text)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(path: Path) -> Iterator[tuple[Path, str]]:
    """File and anchor of every relative link on a page."""
    for target in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        if "://" not in target:
            file, _, anchor = target.partition("#")
            yield (path.parent / file).resolve() if file else path, anchor


def test_the_commands_are_found():
    text = "```sh\nliveportrait edit a.jpg \\\n    -o b.jpg  # a comment\ntorchrun -m liveportrait weights list\n```"
    assert list(commands(text)) == [["edit", "a.jpg", "-o", "b.jpg"], ["weights", "list"]]
    assert sum(len(list(commands(path.read_text(encoding="utf-8")))) for path in TEXTS) > 40


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_every_command_in_a_block_parses(path):
    for arguments in commands(path.read_text(encoding="utf-8")):
        try:
            tyro.cli(Command, args=arguments, config=(tyro.conf.FlagCreatePairsOff,), console_outputs=False)
        except SystemExit:
            pytest.fail(f"the program does not understand: liveportrait {shlex.join(arguments)}")


@pytest.mark.parametrize("path", [ROOT / "NOTICE", *TEXTS], ids=named)
def test_every_path_exists(path):
    missing = sorted(
        {name for name in PATH.findall(path.read_text(encoding="utf-8")) if not (ROOT / name).exists()}
    )
    assert not missing


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_every_link_has_a_target(path):
    for file, anchor in links(path):
        assert file.exists(), f"{named(path)} links {file}"
        assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), (
            f"{named(path)} links #{anchor}"
        )


def test_every_page_can_be_reached_from_the_index():
    reached, waiting = set(), [INDEX]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            waiting += [file for file, _ in links(page) if file in PAGES]
    assert not [named(page) for page in PAGES if page not in reached]


def test_the_readmes_python_example_runs(tmp_path, monkeypatch):
    save_image(tmp_path / "me.jpg", portrait())
    write_video(tmp_path / "driving.mp4", driving_frames(2))
    monkeypatch.chdir(tmp_path)
    (lines,) = [
        body
        for _, language, body in FENCE.findall(README.read_text(encoding="utf-8"))
        if language == "python"
    ]
    names: dict[str, Any] = {}
    exec(lines, names)
    assert names["frame"].shape == names["still"].shape == portrait().shape
    assert (names["frame"] != names["still"]).any()


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_imports_of_python_blocks_work(path):
    for _, language, body in FENCE.findall(path.read_text(encoding="utf-8")):
        if language == "python":
            ast.parse(body)
            exec("\n".join(line for line in body.splitlines() if line.startswith(("from ", "import "))), {})


def test_the_python_reference_names_existing_objects():
    text = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    for name, attribute in re.findall(r"\b(animator|portrait|live|report)\.(\w+)", text):
        owner = getattr(liveportrait, name.capitalize())
        known = {*dir(owner), *owner.__annotations__, "engine"}
        assert attribute in known, f"{name}.{attribute}"
    table = text.split("## Report")[1].split("## Template")[0]
    fields = re.findall(
        r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
    )
    assert all(
        hasattr(liveportrait.Report, field) or field in liveportrait.Report.__annotations__
        for field in fields
    )
    for line in text.split("## Options")[1].split("## Report")[0].splitlines():
        if line.startswith("| `"):
            _, name, _, fields, _ = line.split("|")
            options = getattr(liveportrait, name.strip(" `"))
            for field in re.findall(r"`([a-z_]+)`", fields):
                assert field in {each.name for each in dataclasses.fields(options)}, f"{name} has no {field}"


def test_pages_named_in_code_exist():
    for folder in ("src", "tests", "scripts", "benchmarks", "configs"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".py", ".toml", ".md"):
                for page in re.findall(r"docs/[\w/-]+\.md", file.read_text(encoding="utf-8")):
                    assert (ROOT / page).exists(), f"{named(file)} names {page}"


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_prose_is_wrapped(path):
    prose = FENCE.sub("", path.read_text(encoding="utf-8"))
    long = [
        line
        for line in prose.splitlines()
        if len(line) > WIDTH and not line.lstrip().startswith(("|", "![", "#"))
    ]
    assert not long


def test_the_reference_of_options_is_up_to_date():
    spec = importlib.util.spec_from_file_location(
        "options_reference", ROOT / "scripts/make_options_reference.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.OUT.read_text(encoding="utf-8") == module.reference(), (
        "run python scripts/make_options_reference.py"
    )


@pytest.mark.parametrize("command", ["animate", "edit", "template", "serve"])
def test_the_documented_options_exist(command, capsys):
    text = (ROOT / "docs/reference/options.md").read_text(encoding="utf-8")
    section = text.split(f"## `liveportrait {command}`\n")[1].split("\n## ")[0]
    with pytest.raises(SystemExit):
        tyro.cli(Command, args=[command, "--help"], config=(tyro.conf.FlagCreatePairsOff,))
    known = set(re.findall(r"--[\w.-]+", capsys.readouterr().out))
    assert set(re.findall(r"^\| `(--[\w.-]+)`", section, re.MULTILINE)) <= known
