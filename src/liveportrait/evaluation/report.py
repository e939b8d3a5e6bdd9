"""The report of an evaluation: lines of JSON, tables, figures per clip and contact sheets, and their folder."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
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

CELL = 160  # px: side of a picture on a contact sheet
WORST_CELL = 200  # px: the same on the sheet of the worst cases
MAX_ROWS = 40  # of a contact sheet
WORST_PER_MEASURE = 10
ALL, EXPOSED = "all", "well_exposed"
GROUPS = (ALL, EXPOSED)
GROUP_KINDS = ("turn", "mouth", "kind")  # first words of the groups that get a table of their own
GROUP_MEASURES = {  # measures in the tables by groups of frames; the one by kind has them all
    "turn": ("perceptual", "psnr", "landmarks", "sharpness", "detail", "csim_distance", "blendshape_change"),
    "mouth": ("mouth_perceptual", "mouth_sharpness", "mouth_flicker", "grey_mouth", "grey_face"),
}
LINES, TABLE, CLIPS = "metrics.jsonl", "table.md", "clips.json"
LIBRARIES = ("torch", "numpy", "opencv-python-headless", "openvino")  # their versions are recorded


@dataclass(frozen=True)
class Settings:
    """The options that the figures depend on; `liveportrait evaluate` explains each."""

    weights: str
    data: tuple[str, ...]
    held_out_one_in: int | None  # None: everybody was measured
    stride: int
    seed: int
    portraits: int
    tracker: bool
    precision: str
    device: str


@dataclass(frozen=True)
class Figure:
    """One number of the evaluation, or the reason why there is none."""

    protocol: str
    group: str  # clips: "all", "well_exposed" or "kind …"; frames: "turn …" or "mouth …"
    method: str
    metric: str
    value: float | None
    unit: str
    n: int  # how many frames, clips or curves it is made of
    definition: str  # name and version, see docs/notes/evaluation-definitions.md
    reason: str = ""  # only where there is no value

    def to_json(self) -> str:
        """One line of metrics.jsonl: the value or the reason, not both."""
        fields = asdict(self)
        if self.value is not None:
            fields["value"] = float(f"{self.value:.6g}")
            del fields["reason"]
        return json.dumps(fields)


def figures(evaluation: Evaluation) -> list[Figure]:
    """Every figure by protocol, group, method and measure, then the measures that are missing and why."""
    found = []
    for protocol in PROTOCOLS:
        for group in _groups(evaluation, protocol):
            outcomes = _in_group(evaluation, protocol, group)
            frames = group if group.split()[0] in GROUP_MEASURES else None
            for method in _methods(protocol) if outcomes else ():
                for name, each in summary(outcomes, method, evaluation.centre, frames).items():
                    found.append(_figure(protocol, group, method, name, each.value, each.n))
        for (of, name), reason in evaluation.missing.items():
            if of == protocol:
                found.append(_figure(protocol, ALL, "model", name, None, 0, reason))
    return found


def _figure(
    protocol: str, group: str, method: str, metric: str, value: float | None, n: int, reason: str = ""
) -> Figure:
    """A figure with its measure's unit and definition; "" for both where all measures of a protocol are missing."""
    known = DEFINITIONS.get(metric)
    unit, identifier = (known.unit, known.identifier) if known else ("", "")
    return Figure(protocol, group, method, metric, value, unit, n, identifier, reason)


def table(found: Sequence[Figure], name: str) -> str:
    """Markdown tables of the figures, a few per protocol.

    Rows are measures; columns are methods, or groups of frames or of sources. `name` heads the model's column.
    """
    parts = []
    for protocol in PROTOCOLS:
        own = [figure for figure in found if figure.protocol == protocol]
        parts.append(_method_table(own, name, protocol))
        parts += [_group_table(own, name, protocol, kind) for kind in GROUP_KINDS]
    return "\n\n".join(filter(None, parts))


def _method_table(own: Sequence[Figure], name: str, protocol: str) -> str:
    """A protocol's figures by method, the well-exposed clips next to all, and reasons for what is missing."""
    first, *_ = methods = _methods(protocol)
    groups = GROUPS if protocol != "speech" else (ALL,)
    shown = [figure for figure in own if figure.group in groups and figure.value is not None]
    columns = []
    for group in groups:
        for method in methods:
            head = name if method == "model" else method.replace("_", " ")
            head += "" if group == ALL else ", well exposed"
            cells = [each for each in shown if each.group == group and each.method == method]
            columns.append((head, {each.metric: f"{each.value:.4g}" for each in cells}))
    counts: dict[str, list[str]] = {figure.metric: [] for figure in shown}
    for figure in shown:
        if figure.method == first:
            counts[figure.metric].append(str(figure.n))
    rows = _markdown([*columns, ("n", {metric: " / ".join(each) for metric, each in counts.items()})])
    reasons = [f"{each.metric or protocol}: not available, {each.reason}" for each in own if each.reason]
    title = [f"### {protocol}", ""] if own else []
    return "\n".join([*title, *rows, *([""] if reasons and rows else []), *reasons])


def _group_table(own: Sequence[Figure], name: str, protocol: str, kind: str) -> str:
    """The model's figures by groups of a kind, with how many each is made of in brackets; "" without such groups."""
    own = [each for each in own if each.method == "model" and each.group.split()[0] == kind]
    columns: dict[str, dict[str, str]] = {each.group.removeprefix(f"{kind} "): {} for each in own}
    for each in own:
        if each.metric in GROUP_MEASURES.get(kind, DEFINITIONS):
            columns[each.group.removeprefix(f"{kind} ")][each.metric] = f"{each.value:.4g} ({each.n})"
    rows = _markdown(list(columns.items()))
    return "\n".join([f"### {protocol}, {name} by {kind}", "", *rows]) if rows else ""


def _markdown(columns: Sequence[tuple[str, dict[str, str]]]) -> list[str]:
    """The lines of a table whose columns have a heading and a cell per measure; none where all cells are empty."""
    known = [each for each in DEFINITIONS.values() if any(each.name in cells for _, cells in columns)]
    if not known:
        return []
    rows = [["measure", "unit", "better", *(head for head, _ in columns)]]
    for each in known:
        rows.append([each.name, each.unit, each.better, *(cells.get(each.name, "–") for _, cells in columns)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]


def clip_figures(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The figures of each clip (all but fid, which needs many frames), ready for JSON."""
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
    """Contact sheets by file name, up to two per protocol; none where no pictures were kept.

    One shows the first 40 clips or pairs, the other the ten worst by each of two measures.
    """
    found: dict[str, Image] = {}
    for protocol in PROTOCOLS:
        rows = [outcome for outcome in evaluation.of(protocol) if outcome.tiles][:MAX_ROWS]
        if rows:
            labels = [_label(row) for row in rows]
            found[f"{protocol}.png"] = contact_sheet([row.tiles for row in rows], labels, CELL)
        if bad := _worst(evaluation.of(protocol)):
            found[f"{protocol}-worst.png"] = contact_sheet(list(bad.values()), list(bad), WORST_CELL)
    return found


def _worst(outcomes: Sequence[Outcome]) -> dict[str, tuple[Image, ...]]:
    """Rows of the sheet of the worst cases, by label: for each measure, the ten clips whose worst frame is worst.

    Clips that fade in are left out: they would fill most rows and teach nothing.
    """
    rows: dict[str, tuple[Image, ...]] = {}
    for measure in dict.fromkeys(each.measure for outcome in outcomes for each in outcome.worst):
        shown = [of for of in outcomes if of.is_well_exposed]
        cases = [(each, of) for of in shown for each in of.worst if each.measure == measure]
        cases.sort(key=lambda case: -case[0].value)
        for each, of in cases[:WORST_PER_MEASURE]:
            rows[f"{measure} {each.value:.3f}: {_pair(of)}, frame {each.frame}"] = each.tiles
    return rows


def prepare_folder(folder: Path, with_sheets: bool, overwrite: bool) -> None:
    """Make the folder of a report. Raises `UserError` if that fails, or if it has such files already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from error
    drawn = [f"{name}{kind}.png" for name in PROTOCOLS for kind in ("", "-worst")] if with_sheets else []
    for name in (LINES, TABLE, CLIPS, *drawn):
        check_output(folder / name, overwrite=overwrite)


def write(folder: Path, evaluation: Evaluation, settings: Settings, overwrite: bool = False) -> list[Path]:
    """Write metrics.jsonl, table.md, clips.json and, if pictures were kept, the sheets. Returns their paths."""
    found = figures(evaluation)
    lines = [json.dumps({"about": _provenance(evaluation, settings)}), *(each.to_json() for each in found)]
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


def _provenance(evaluation: Evaluation, settings: Settings) -> dict[str, Any]:
    """Settings and versions that the figures depend on, ready for JSON."""
    described = weights.describe(settings.weights)
    return {
        "program": version("liveportrait"),
        "weights": settings.weights,
        "sha256": described.sha256 or None,
        "variant": described.variant.name,
        **asdict(settings),
        "burst": BURST,
        "clips": {name: len(evaluation.of(name)) for name in evaluation.protocols},
        "people_of_the_mean_identity": evaluation.people,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
    }


def _methods(protocol: str) -> tuple[str, ...]:
    return SPEECH_METHODS if protocol == "speech" else METHODS


def _label(outcome: Outcome) -> str:
    if outcome.protocol == "control":
        return f"{outcome.source}: source, then requests from 0 to 0.6 (eyes, lips)"
    if outcome.protocol == "speech":
        return f"{_pair(outcome)}: the portrait saying the clip, at six moments"
    others = "model" if outcome.protocol == "people" else "model, landmark warp"
    return f"{_pair(outcome)}: source, then driver, {others} at three telling frames"


def _pair(outcome: Outcome) -> str:
    return outcome.source if outcome.source == outcome.driver else f"{outcome.source} <- {outcome.driver}"


def _groups(evaluation: Evaluation, protocol: Protocol) -> list[str]:
    """Names of the groups: of clips, of sources by kind, of frames."""
    outcomes = evaluation.of(protocol)
    kinds = sorted({each.kind for each in outcomes if each.kind})
    frames = dict.fromkeys(name for each in outcomes for name in each.groups)
    return [*GROUPS, *(f"kind {kind}" for kind in kinds if len(kinds) > 1), *frames]


def _in_group(evaluation: Evaluation, protocol: Protocol, group: str) -> list[Outcome]:
    """The outcomes that a group's figures are made of."""
    outcomes = evaluation.of(protocol)
    if group == EXPOSED:
        return [each for each in outcomes if each.is_well_exposed]
    if group.startswith("kind "):
        return [each for each in outcomes if f"kind {each.kind}" == group]
    return outcomes
