"""The requests and responses of the service, with examples; OpenAPI is generated from them."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field

from liveportrait.apps.jobs import JobKind
from liveportrait.apps.server.service import Status
from liveportrait.apps.server.store import State, Upload

_ID = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class SourceView(BaseModel):
    """An uploaded file: a portrait, what drives one, or what one says."""

    id: str = Field(description="SHA-256 of its bytes", examples=[_ID])
    name: str = Field(examples=["me.jpg"])
    kind: str = Field(description="picture, video, sound, template or other", examples=["picture"])
    bytes: int
    width: int = Field(description="px, 0 for a sound or template", examples=[1024])
    height: int = Field(examples=[1024])
    frames: int = Field(examples=[1])
    seconds: float = Field(examples=[0.0])


class CredentialsView(BaseModel):
    """What a file's content credentials (C2PA) say."""

    state: str = Field(
        description="trusted, valid (by an unknown signer), broken, unreadable or elsewhere",
        examples=["valid"],
    )
    signer: str = Field(examples=["LivePortrait development certificate"])
    program: str = Field(examples=["LivePortrait 0.1.0"])
    generated: bool = Field(description="whether they say that the material is generated")
    source_types: list[str] = Field(examples=[["compositeWithTrainedAlgorithmicMedia"]])
    facts: dict[str, Any] = Field(
        description="details, if this program made the file",
        examples=[{"kind": "animate", "weights": {"name": "compact"}}],
    )
    watermark: str = Field(
        description="text of the watermark according to them; empty if they do not mention one",
        examples=["11a2b33a1c5f"],
    )
    problems: list[str] = []


class WatermarkView(BaseModel):
    """Frames that carry this program's watermark."""

    first: int = Field(description="from 0", examples=[0])
    last: int = Field(examples=[249])
    work: str | None = Field(
        description="what was done; null, like the fields below, if the watermark is too weak to be read",
        examples=["animated"],
    )
    source: str | None = Field(description="start of the source's SHA-256", examples=[_ID[:4]])
    weights: str | None = Field(description="start of the SHA-256 of the weights' name", examples=["3a"])
    text: str | None = Field(description="the full text, in hexadecimal", examples=["11a2b33a1c5f"])


class VerdictView(BaseModel):
    """What a picture or video says about how it was made."""

    marked: bool = Field(description="whether it says that it is generated, and is intact")
    credentials: CredentialsView | None
    watermark: list[WatermarkView]


class JobRequest(BaseModel):
    """What to do with uploaded files."""

    model_config = ConfigDict(extra="forbid")
    kind: JobKind = Field(examples=["animate"])
    source: str | None = Field(default=None, description="a file's id; none for a template", examples=[_ID])
    driving: list[str] = Field(
        default=[],
        description="ids, or names of bundled motions; to speak, the id of a sound or a video",
        examples=[["smile"]],
    )
    options: dict[str, Any] = Field(
        {}, description="named as on the command line", examples=[{"region": "expression"}]
    )
    format: str = Field(
        default="", description="suffix of the result; by default it suits the inputs", examples=[".webm"]
    )
    files: dict[str, str] = Field(
        {}, description="option → id, for options that name a file", examples=[{"expression-from": _ID}]
    )


class JobView(BaseModel):
    """The state of a job."""

    id: str = Field(examples=["Jv0T3cWq2hQ0mY1xkVbq8g"])
    kind: JobKind = Field(examples=["animate"])
    state: State = Field(examples=["running"])
    created: float = Field(description="Unix time", examples=[1767225600.0])
    started: float | None = None
    ended: float | None = None
    before: int = Field(default=0, description="jobs ahead of it in the queue")
    step: str = Field(default="", examples=["animate"])
    done: int = Field(default=0, description="frames done in this step", examples=[48])
    total: int | None = Field(default=None, examples=[250])
    frames_per_second: float | None = Field(default=None, examples=[9.1])
    seconds_left: float | None = Field(default=None, examples=[22.2])
    frames: int = Field(default=0, description="frames of the result")
    seconds: float = Field(default=0.0, description="time the work took")
    notes: list[str] = []
    error: str = Field(default="", description="why it failed")
    result: str | None = Field(default=None, description="where to fetch the result once the job is done")


def view_of_upload(upload: Upload) -> SourceView:
    """An upload as callers see it."""
    return SourceView(**{name: getattr(upload, name) for name in SourceView.model_fields})


def view_of(status: Status) -> JobView:
    """A job as callers see it."""
    record, ticket = status.record, status.ticket
    view = JobView(
        id=record.id,
        kind=record.kind,
        state=record.state,
        created=record.created,
        started=record.started,
        ended=record.ended,
        before=status.before,
        frames=record.frames,
        seconds=record.seconds,
        notes=list(record.notes),
        error=record.error,
        result=f"/v1/jobs/{record.id}/result" if record.state == "done" else None,
    )
    if ticket is None:
        return view
    rate = ticket.rate
    left = (ticket.total - ticket.done) / rate if rate and ticket.total else None
    progress = {"step": ticket.step, "done": ticket.done, "total": ticket.total}
    return view.model_copy(update={**progress, "frames_per_second": rate, "seconds_left": left})


_FILE = {"type": "string", "format": "binary"}


def _form(properties: dict[str, Any], required: list[str], example: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI description of a form with these fields."""
    schema = {"type": "object", "properties": properties, "required": required}
    return {"multipart/form-data": {"schema": schema, "example": example}}


SOURCE_BODY = {
    "requestBody": {"required": True, "content": _form({"file": _FILE}, ["file"], {"file": "(me.jpg)"})}
}
_EITHER = {"oneOf": [{"type": "string"}, _FILE]}
JOB_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": JobRequest.model_json_schema(),
                "example": {
                    "kind": "animate",
                    "source": _ID,
                    "driving": ["smile"],
                    "options": {"lock-head": True},
                },
            },
            **_form(
                {
                    "kind": {"type": "string", "enum": list(get_args(JobKind))},
                    "source": _EITHER,
                    "driving": {"type": "array", "items": _EITHER},
                    "options": {"type": "string", "description": "a JSON object"},
                    "format": {"type": "string"},
                    "expression-from": _EITHER,
                    "keyframes": _EITHER,
                    "head": _EITHER,
                    "style": _EITHER,
                },
                ["kind"],
                {"kind": "edit", "source": "(me.jpg)", "options": '{"smile": 0.8}', "format": ".jpg"},
            ),
        },
    }
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI description of a route's refusals."""
    example = {"detail": "one sentence: what is wrong, where, and what to do"}
    content = {"application/json": {"example": example}}
    return {status: {"description": "refused", "content": content} for status in statuses}
