"""Dockerfile and compose.yaml, checked without Docker: names, paths and commands are consistent."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import tyro
import yaml
from packaging.requirements import Requirement

from liveportrait.apps.cli import Command
from liveportrait.apps.serve import Serve

ROOT = Path(__file__).parents[1]


def instructions() -> list[tuple[str, str, str]]:
    """Stage, instruction and arguments of every line of the Dockerfile; continued lines are joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    stage, found = "", []
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if line.strip():
            name, arguments = line.split(maxsplit=1)
            if name == "FROM":
                stage = arguments.split(" AS ")[1]
            found.append((stage, name, arguments))
    return found


def arguments_of(name: str) -> list[str]:
    return [arguments for _, each, arguments in instructions() if each == name]


def command_of(parts: list[str]) -> Serve:
    """The program's command with its parsed arguments."""
    assert parts[0] == "liveportrait"
    command = tyro.cli(Command, args=parts[1:], config=(tyro.conf.FlagCreatePairsOff,))
    assert isinstance(command, Serve)
    return command


def compose() -> dict:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def test_stages_use_a_pinned_base_image_and_do_not_run_as_root():
    froms = [re.fullmatch(r"(\S+) AS (\w+)", arguments).groups() for arguments in arguments_of("FROM")]
    assert [stage for _, stage in froms] == ["base", "cuda", "cpu"]
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", froms[0][0])
    assert [image for image, _ in froms[1:]] == ["base", "base"]
    for stage in ("cuda", "cpu"):
        last = [each for each in instructions() if each[0] == stage][-1]
        assert last[1:] == ("USER", "liveportrait")
    assert re.search(r"useradd [^&]*\bliveportrait\b", arguments_of("RUN")[0])


def test_copied_files_exist_and_are_not_ignored():
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [path for arguments in arguments_of("COPY") for path in arguments.split()[:-1]]
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / path).exists() for path in copied)
    project = (ROOT / "pyproject.toml").read_text()
    for path in re.findall(r"^(?:readme|license-files) = (.+)$", project, re.MULTILINE):
        assert set(re.findall(r'"(.+?)"', path)) <= set(copied)


def test_extras_and_pins_match_the_project():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    installs = [arguments for arguments in arguments_of("RUN") if "pip install" in arguments]
    assert len(installs) == 2
    for arguments in installs:
        wanted = Requirement("liveportrait" + re.search(r"'\.(\[.+?\])'", arguments)[1]).extras
        assert "serve" in wanted and wanted <= extras.keys()
        assert arguments.count("--constraint constraints.txt") == arguments.count("pip install")
    (torch,) = (each.removeprefix("TORCH=") for each in arguments_of("ARG") if each.startswith("TORCH="))
    assert torch == f"torch=={pins['torch']}"


def test_the_command_parses_and_listens_on_the_exposed_port():
    command = command_of(json.loads(arguments_of("CMD")[0]))
    assert (command.host, str(command.port)) == ("0.0.0.0", arguments_of("EXPOSE")[0])
    assert str(command.data) == arguments_of("VOLUME")[0]
    health = json.loads(arguments_of("HEALTHCHECK")[0].split("CMD ")[1])
    compile(health[2], "HEALTHCHECK", "exec")
    assert f":{command.port}/healthz" in health[2]


@pytest.mark.parametrize("name", compose()["services"])
def test_compose_runs_existing_stages(name):
    whole = compose()
    service = whole["services"][name]
    assert service["build"]["target"] in {stage for stage, *_ in instructions()}
    assert (ROOT / service["build"]["context"] / "Dockerfile").exists()
    command = command_of(service["command"])
    (volume,) = (each.split(":") for each in service["volumes"])
    assert volume[0] in whole["volumes"] and volume[1] == str(command.data)
    (secret,) = service["secrets"]
    assert secret in whole["secrets"] and str(command.tokens) == f"/run/secrets/{secret}"
    host, _, port = service["ports"][0].rsplit(":", 2)
    assert host == "127.0.0.1" and int(port) == command.port
    assert float(service["stop_grace_period"].removesuffix("s")) > command.end_seconds + 10
