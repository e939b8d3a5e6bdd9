"""The routes of the service under /v1: files, jobs, their progress and their results."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, HTTPException, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from liveportrait.apps.server.service import Service, Status
from liveportrait.apps.server.store import QueueFull, Upload
from liveportrait.apps.server.views import (
    JOB_BODY,
    SOURCE_BODY,
    JobRequest,
    JobView,
    SourceView,
    VerdictView,
    refusals,
    view_of,
    view_of_upload,
)
from liveportrait.errors import UserError

_EVERY_S = 0.2  # between looks at a job that is followed
_ALIVE_EVERY_S = 15.0  # between signs of life, so that nothing in between hangs up
_FIELDS, _FILES, _FIELD_BYTES = 32, 8, 2**16
_OF_A_FILE = 400, 401, 413, 415, 422, 503, 507  # refusals where something is posted

router = APIRouter(prefix="/v1", dependencies=[Security(HTTPBearer(auto_error=False))])


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _status(job: str, request: Request) -> Status:
    """The job that a path names. What belongs to another token does not exist."""
    service = await _service(request)
    status = await run_in_threadpool(service.status, job)
    if status is None or status.record.owner != request.state.owner:
        raise HTTPException(404, f"there is no job {job[:64]!r} here")
    return status


Shared = Annotated[Service, Depends(_service)]
Known = Annotated[Status, Depends(_status)]


@router.post(
    "/sources",
    status_code=201,
    tags=["files"],
    openapi_extra=SOURCE_BODY,
    responses=refusals(*_OF_A_FILE)
    | {200: {"description": "the file was here already", "model": SourceView}},
)
async def post_source(request: Request, response: Response, service: Shared) -> SourceView:
    """Post a file: a portrait, what drives it, or what it says. Posting it again costs nothing, same id (200)."""
    upload, new = await _brought(request, service)
    if not new:
        response.status_code = 200
    return view_of_upload(upload)


@router.get("/sources/{source}", tags=["files"], responses=refusals(401, 404))
def get_source(source: str, service: Shared) -> SourceView:
    """What is known of a file; 404 where it has to be posted (again)."""
    if upload := service.uploads.find(source):
        return view_of_upload(upload)
    raise HTTPException(404, f"there is no file {source[:64]!r} here: post it")


@router.post("/verify", tags=["files"], openapi_extra=SOURCE_BODY, responses=refusals(*_OF_A_FILE))
async def post_verify(request: Request, service: Shared) -> VerdictView:
    """What a picture or video, whoever made it, says of how it was made. It is kept as other files are."""
    upload, _ = await _brought(request, service)
    verdict = await run_in_threadpool(service.verdict, upload)
    return VerdictView.model_validate(verdict.as_json())


@router.get("/motions", tags=["files"])
def get_motions() -> list[str]:
    """The names of the bundled motions, which may stand for a driving file."""
    from liveportrait.motion import bundled_files

    return list(bundled_files())


@router.post(
    "/jobs",
    status_code=202,
    tags=["jobs"],
    openapi_extra=JOB_BODY,
    responses=refusals(*_OF_A_FILE, 429),
)
async def post_job(
    request: Request,
    response: Response,
    service: Shared,
    idempotency_key: Annotated[str, Header(max_length=200)] = "",
) -> JobView:
    """Post a job: as JSON about files that are kept here, or as a form that may bring them along.

    An accepted job is done exactly once, or its failure told, even if the service is killed. A key of your own makes
    it safe to post it again when the answer was lost. Status 429 says that too many wait, and in Retry-After when to
    try again.
    """
    owner = request.state.owner
    if known := await run_in_threadpool(service.known, owner, idempotency_key):
        return view_of(known)
    if service.is_full:
        raise QueueFull
    asked = await _asked(request, service)
    record = await run_in_threadpool(
        service.submit,
        asked.kind,
        asked.source,
        asked.driving,
        asked.options,
        {name.replace("-", "_"): upload for name, upload in asked.files.items()},
        _suffix(asked.format),
        owner,
        idempotency_key,
    )
    response.headers["Location"] = f"/v1/jobs/{record.id}"
    return view_of(Status(record))


@router.get("/jobs/{job}", tags=["jobs"], responses=refusals(401, 404))
async def get_job(status: Known) -> JobView:
    """How a job stands."""
    return view_of(status)


@router.get(
    "/jobs/{job}/events",
    tags=["jobs"],
    response_class=StreamingResponse,
    responses=refusals(401, 404)
    | {
        200: {
            "content": {"text/event-stream": {"example": 'event: progress\ndata: {"state": "running"}\n\n'}}
        }
    },
)
async def get_events(status: Known, service: Shared) -> StreamingResponse:
    """Follow a job: an event `progress` at every change, and at last one `end`, each with the job as JSON."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(service, status), media_type="text/event-stream", headers=headers)


@router.get(
    "/jobs/{job}/result",
    tags=["jobs"],
    responses=refusals(401, 404, 409, 410) | {200: {"content": {"image/*": {}, "video/*": {}}}},
    response_class=FileResponse,
)
def get_result(status: Known, service: Shared, compare: bool = False) -> FileResponse:
    """Fetch the result of a job that is done; with `compare` the comparison, where the job was asked for one."""
    record = status.record
    if record.state == "expired":
        raise HTTPException(410, "this result is not kept any more: post the job again")
    if record.state != "done":
        reason = record.error or "its result comes when it is done"
        raise HTTPException(409, f"the job is {record.state}: {reason}")
    path = service.workers.result(record, compare)
    if not path.is_file():
        raise HTTPException(404, "the job was not asked to compare: post it with the option compare")
    return FileResponse(path, filename=f"{record.kind}-{record.id[:8]}{record.suffix}")


@router.delete("/jobs/{job}", tags=["jobs"], status_code=202, responses=refusals(401, 404))
def delete_job(job: str, status: Known, service: Shared) -> JobView:
    """Stop a job after the frames that it is at, within a second or two; of one that is done, forget the result."""
    service.cancel(job)
    return view_of(service.status(job) or status)


async def _brought(request: Request, service: Service) -> tuple[Upload, bool]:
    """The file of a form, kept, and whether it is new."""
    async with request.form(max_files=1, max_fields=1, max_part_size=_FIELD_BYTES) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise HTTPException(
                422, "file is missing: send a form with a picture, video, sound or template as its file"
            )
        return await run_in_threadpool(service.keep, file.file, file.filename or "file")


async def _asked(request: Request, service: Service) -> JobRequest:
    """What a request to do a job asks for; files that come with it are kept."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            return _validated(json.loads(await request.body()))
        except (ValueError, RecursionError) as error:
            raise HTTPException(422, f"the body is not JSON: {error}") from error
    if kind != "multipart/form-data":
        raise HTTPException(
            415, f"a job comes as application/json or multipart/form-data, not as {kind or 'that'}"
        )
    async with request.form(max_files=_FILES, max_fields=_FIELDS, max_part_size=_FIELD_BYTES) as form:
        asked: dict[str, Any] = {"driving": [], "files": {}}
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                upload, _ = await run_in_threadpool(service.keep, value.file, value.filename or "file")
                value = upload.id
            if name == "driving":
                asked["driving"].append(value)
            elif name == "options":
                asked["options"] = _options(value)
            elif name in JobRequest.model_fields:
                asked[name] = value
            else:
                asked["files"][name] = value
    return _validated(asked)


def _options(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HTTPException(422, f"options are no JSON object: {error}") from error


def _validated(asked: Any) -> JobRequest:
    try:
        return JobRequest.model_validate(asked)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from error


def _suffix(text: str) -> str:
    suffix = f".{text.strip().lower().lstrip('.')}" if text.strip() else ""
    if not suffix.removeprefix(".").isalnum() and suffix:
        raise UserError(f"format is {text!r}: give a suffix such as .mp4, .webm, .gif or .png")
    return suffix


async def _events(service: Service, status: Status) -> AsyncIterator[str]:
    """The events of a job until it has ended, or the service ends: whoever follows asks again then."""
    job, sent, silent = status.record.id, "", 0.0
    yield "retry: 1000\n\n"
    while not service.is_ending:
        view = view_of(status)
        data = view.model_dump_json()
        if status.record.is_finished:
            yield f"event: end\ndata: {data}\n\n"
            return
        if data != sent:
            yield f"event: progress\ndata: {data}\n\n"
            sent, silent = data, 0.0
        elif silent >= _ALIVE_EVERY_S:
            yield ": alive\n\n"
            silent = 0.0
        await asyncio.sleep(_EVERY_S)
        silent += _EVERY_S
        found = await run_in_threadpool(service.status, job)
        if found is None:
            return
        status = found
