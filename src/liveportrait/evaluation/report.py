"""An evaluation as lines of JSON, a table, figures a clip and contact sheets; and the folder that holds them."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from liveportrait import weights
from liveportrait.errors import UserError
from liveportrait.evaluation.evaluate import Evaluation
from liveportrait.evaluation.inputs import BURST
from liveportrait.evaluation.results import (
    DEFINITIONS,
    METHODS,
    PROTOCOLS,
    SPEECH_METHODS,
    Outcome,
    Protocol,
    summary,
)
from liveportrait.media import check_output, contact_sheet, output_file, save_image
from liveportrait.types import Image

CELL = 160  # px of a picture on a contact sheet
WORST_CELL = 200  # on one of the worst cases
MOST_ROWS = 40
WORST_ROWS = 10  # a measure
ALL, EXPOSED = "all", "well_exposed"
GROUPS = (ALL, EXPOSED)
PARTS = ("turn", "mouth", "kind")  # the first words of groups that have a table of their own
SPLIT = {
    "turn": ("perceptual", "psnr", "landmarks", "sharpness", "detail", "csim_distance", "blendshape_change"),
    "mouth": ("mouth_perceptual", "mouth_sharpness", "mouth_flicker", "grey_mouth", "grey_face"),
}  # measures of those tables; a table by kind has them all
LINES, TABLE, CLIPS = "metrics.jsonl", "table.md", "clips.json"
LIBRARIES = ("torch", "numpy", "opencv-python-headless", "openvino")  # whose versions are told


@dataclass(frozen=True)
class Settings:
    """The options that the figures depend on; `liveportrait evaluate` explains each."""

    weights: str
    data: tuple[str, ...]
    held_out_one_in: int | None  # None where everybody was taken
    stride: int
    seed: int
    portraits: int
    tracker: bool
    precision: str
    device: str


@dataclass(frozen=True)
class Figure:
    """One number of the evaluation, or why there is none."""

    protocol: str
    group: str  # "all" clips, the "well_exposed" ones, or those of a kind; or frames, by turn or mouth
    method: str
    metric: str
    value: float | None
    unit: str
    n: int  # how many frames, clips or pairs of curves' clips it is made of
    definition: str  # name and version, see docs/notes/evaluation-definitions.md
    reason: str = ""  # where there is no value

    def line(self) -> str:
        """As JSON."""
        fields = asdict(self)
        if self.value is not None:
            fields["value"] = float(f"{self.value:.6g}")
            del fields["reason"]
        return json.dumps(fields)


def figures(evaluation: Evaluation) -> list[Figure]:
    """Every figure: by protocol, group, method and measure, in the order of the definitions."""
    return list(_figures(evaluation))


def _figures(evaluation: Evaluation) -> Iterator[Figure]:
    for protocol in PROTOCOLS:
        for group in _groups(evaluation, protocol):
            outcomes = _group(evaluation, protocol, group)
            frames = group if group.split()[0] in SPLIT else None
            for method in _methods(protocol) if outcomes else ():
                found = summary(outcomes, method, evaluation.centre, frames)
                for name, each in found.items():
                    definition = DEFINITIONS[name]
                    yield Figure(
                        protocol,
                        group,
                        method,
                        name,
                        each.value,
                        definition.unit,
                        each.n,
                        definition.identifier,
                    )
        for (of, name), reason in evaluation.missing.items():
            if of == protocol:
                known = DEFINITIONS.get(name)
                unit, identifier = (known.unit, known.identifier) if known else ("", "")
                yield Figure(protocol, ALL, "model", name, None, unit, 0, identifier, reason)


def table(found: Sequence[Figure], name: str) -> str:
    """Figures as Markdown tables, a few a protocol: measures down, methods or groups of frames or sources across."""
    parts = []
    for protocol in PROTOCOLS:
        parts.append(_table(found, name, protocol))
        parts += [_split_table(found, name, protocol, part) for part in PARTS]
    return "\n\n".join(filter(None, parts))


def _table(found: Sequence[Figure], name: str, protocol: str) -> str:
    own = [figure for figure in found if figure.protocol == protocol]
    methods = _methods(protocol)
    groups = GROUPS if protocol != "speech" else (ALL,)
    titles = {method: method.replace("_", " ") for method in methods} | {"model": name}
    columns = [(group, method) for group in groups for method in methods]
    heads = [titles[method] + ("" if group == ALL else ", well exposed") for group, method in columns]
    rows = [["measure", "unit", "better", *heads, "n"]]
    values = {
        (figure.metric, figure.group, figure.method): figure for figure in own if figure.value is not None
    }
    for definition in DEFINITIONS.values():
        cells = [values.get((definition.name, *column)) for column in columns]
        if any(cells):
            counts = [f"{cell.n}" for cell in cells[:: len(methods)] if cell]
            shown = ["–" if cell is None else f"{cell.value:.4g}" for cell in cells]
            rows.append([definition.name, definition.unit, definition.better, *shown, " / ".join(counts)])
    lines = [f"### {protocol}", ""] if own else []
    if len(rows) > 1:
        lines += _laid_out(rows)
    reasons = [
        f"{figure.metric or protocol}: not available, {figure.reason}" for figure in own if figure.reason
    ]
    return "\n".join([*lines, *([""] if reasons and len(rows) > 1 else []), *reasons])


def _split_table(found: Sequence[Figure], name: str, protocol: str, part: str) -> str:
    """The model's figures by a group's kind, "" where there are none: values, and in brackets of how many."""
    own = [
        each
        for each in found
        if each.protocol == protocol and each.method == "model" and each.group.split()[0] == part
    ]
    groups = list(dict.fromkeys(each.group for each in own))
    values = {(each.metric, each.group): each for each in own}
    rows = [["measure", "unit", "better", *(group.removeprefix(f"{part} ") for group in groups)]]
    for definition in DEFINITIONS.values():
        cells = [values.get((definition.name, group)) for group in groups]
        if any(cells) and definition.name in SPLIT.get(part, DEFINITIONS):
            shown = [f"{cell.value:.4g} ({cell.n})" if cell else "–" for cell in cells]
            rows.append([definition.name, definition.unit, definition.better, *shown])
    return "\n".join([f"### {protocol}, {name} by {part}", "", *_laid_out(rows)]) if len(rows) > 1 else ""


def _laid_out(rows: list[list[str]]) -> list[str]:
    """The lines of a Markdown table, the first row its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in ruled
    ]


def clip_figures(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Every clip's own figures (all but fid, which needs many frames), as JSON."""
    return [
        {
            "protocol": outcome.protocol,
            "source": outcome.source,
            "driver": outcome.driver,
            "kind": outcome.kind,
            "well_exposed": outcome.is_well_exposed,
            "frames": outcome.frames,
            "methods": {
                method: {
                    name: float(f"{figure.value:.6g}")
                    for name, figure in summary([outcome], method, evaluation.centre).items()
                    if name != "fid"
                }
                for method in _methods(outcome.protocol)
            },
        }
        for outcome in evaluation.outcomes
    ]


def sheets(evaluation: Evaluation) -> dict[str, Image]:
    """Contact sheets by file name, two a protocol, as far as pictures were kept.

    One with at most 40 rows of clips or pairs as they come, and one of the ten worst by each of two measures.
    """
    found: dict[str, Image] = {}
    for protocol in PROTOCOLS:
        rows = [outcome for outcome in evaluation.of(protocol) if outcome.tiles][:MOST_ROWS]
        if rows:
            labels = [_label(row) for row in rows]
            found[f"{protocol}.png"] = contact_sheet([row.tiles for row in rows], labels, CELL)
        if bad := _worst(evaluation.of(protocol)):
            found[f"{protocol}-worst.png"] = contact_sheet(list(bad.values()), list(bad), WORST_CELL)
    return found


def _worst(outcomes: Sequence[Outcome]) -> dict[str, tuple[Image, ...]]:
    """Rows of the sheet of the worst cases, by label: for each measure the ten clips with the worst worst frame.

    Clips that fade in are left out: nothing is to be learned from them, and they would be most of the rows.
    """
    rows: dict[str, tuple[Image, ...]] = {}
    for measure in dict.fromkeys(each.measure for outcome in outcomes for each in outcome.worst):
        shown = [of for of in outcomes if of.is_well_exposed]
        cases = [(each, of) for of in shown for each in of.worst if each.measure == measure]
        cases.sort(key=lambda case: -case[0].value)
        for each, of in cases[:WORST_ROWS]:
            rows[f"{measure} {each.value:.3f}: {_pair(of)}, frame {each.frame}"] = each.tiles
    return rows


def prepare_folder(folder: Path, with_sheets: bool, overwrite: bool) -> None:
    """Make the folder of a report. Raises `UserError` where it cannot be made, or has the files already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from error
    drawn = [f"{name}{kind}.png" for name in PROTOCOLS for kind in ("", "-worst")] if with_sheets else []
    for name in (LINES, TABLE, CLIPS, *drawn):
        check_output(folder / name, overwrite=overwrite)


def write(folder: Path, evaluation: Evaluation, settings: Settings, overwrite: bool = False) -> list[Path]:
    """Write metrics.jsonl, table.md, clips.json and the sheets, as far as pictures were kept; their paths."""
    found = figures(evaluation)
    lines = [json.dumps({"about": _about(evaluation, settings)}), *(figure.line() for figure in found)]
    texts = {
        LINES: "\n".join(lines),
        TABLE: table(found, Path(settings.weights).name),
        CLIPS: json.dumps(clip_figures(evaluation), indent=1),
    }
    for name, text in texts.items():
        with output_file(folder / name, overwrite) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    drawn = sheets(evaluation)
    for name, sheet in drawn.items():
        save_image(folder / name, sheet, overwrite)
    return [folder / name for name in (*texts, *drawn)]


def _about(evaluation: Evaluation, settings: Settings) -> dict[str, Any]:
    """Settings and versions that the figures depend on, as JSON."""
    described = weights.describe(settings.weights)
    return {
        "program": version("liveportrait"),
        "weights": settings.weights,
        "sha256": described.sha256 or None,
        "variant": described.variant.name,
        "data": list(settings.data),
        "held_out_one_in": settings.held_out_one_in,
        "stride": settings.stride,
        "burst": BURST,
        "seed": settings.seed,
        "portraits": settings.portraits,
        "tracker": settings.tracker,
        "precision": settings.precision,
        "device": settings.device,
        "clips": {name: len(evaluation.of(name)) for name in evaluation.protocols},
        "people_of_the_mean_identity": evaluation.people,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
    }


def _methods(protocol: str) -> tuple[str, ...]:
    return SPEECH_METHODS if protocol == "speech" else METHODS


def _label(outcome: Outcome) -> str:
    if outcome.protocol == "control":
        return f"{outcome.source}: source, then requests from 0 to 0.6 (eyes, lips)"
    others = "model" if outcome.protocol == "people" else "model, landmark warp"
    return f"{_pair(outcome)}: source, then driver, {others} at three telling_frames"


def _pair(outcome: Outcome) -> str:
    return outcome.source if outcome.source == outcome.driver else f"{outcome.source} <- {outcome.driver}"


def _groups(evaluation: Evaluation, protocol: Protocol) -> list[str]:
    """Names of the groups: of clips, of kinds of sources, of frames."""
    outcomes = evaluation.of(protocol)
    kinds = sorted({each.kind for each in outcomes if each.kind})
    frames = dict.fromkeys(name for each in outcomes for name in each.groups)
    return [*GROUPS, *(f"kind {kind}" for kind in kinds if len(kinds) > 1), *frames]


def _group(evaluation: Evaluation, protocol: Protocol, group: str) -> list[Outcome]:
    outcomes = evaluation.of(protocol)
    if group == EXPOSED:
        return [each for each in outcomes if each.is_well_exposed]
    if group.startswith("kind "):
        return [each for each in outcomes if f"kind {each.kind}" == group]
    return outcomes
