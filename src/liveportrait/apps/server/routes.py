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

_POLL_S = 0.2  # how often a followed job is polled
_KEEP_ALIVE_S = 15.0  # between keep-alive comments, so that no proxy closes the connection
_MAX_FIELDS, _MAX_FILES, _MAX_FIELD_BYTES = 32, 8, 2**16
_UPLOAD_REFUSALS = 400, 401, 413, 415, 422, 503, 507  # statuses of a refused upload

router = APIRouter(prefix="/v1", dependencies=[Security(HTTPBearer(auto_error=False))])


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _status(job: str, request: Request) -> Status:
    """The job that a path names. The jobs of other tokens appear not to exist."""
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
    responses=refusals(*_UPLOAD_REFUSALS)
    | {200: {"description": "the file was already there", "model": SourceView}},
)
async def post_source(request: Request, response: Response, service: Shared) -> SourceView:
    """Post a file: a portrait, what drives it, or what it says. Posting it again is free: same id (200)."""
    upload, new = await _posted_file(request, service)
    if not new:
        response.status_code = 200
    return view_of_upload(upload)


@router.get("/sources/{source}", tags=["files"], responses=refusals(401, 404))
def get_source(source: str, service: Shared) -> SourceView:
    """What is known about a file; 404 if it must be posted (again)."""
    if upload := service.uploads.find(source):
        return view_of_upload(upload)
    raise HTTPException(404, f"there is no file {source[:64]!r} here: post it")


@router.post("/verify", tags=["files"], openapi_extra=SOURCE_BODY, responses=refusals(*_UPLOAD_REFUSALS))
async def post_verify(request: Request, service: Shared) -> VerdictView:
    """What a picture or video from any program says about how it was made. It is kept like other uploads."""
    upload, _ = await _posted_file(request, service)
    verdict = await run_in_threadpool(service.verdict, upload)
    return VerdictView.model_validate(verdict.as_json())


@router.get("/motions", tags=["files"])
def get_motions() -> list[str]:
    """The names of the bundled motions, which can be used in place of a driving file."""
    from liveportrait.motion import bundled_files

    return list(bundled_files())


@router.post(
    "/jobs",
    status_code=202,
    tags=["jobs"],
    openapi_extra=JOB_BODY,
    responses=refusals(*_UPLOAD_REFUSALS, 429),
)
async def post_job(
    request: Request,
    response: Response,
    service: Shared,
    idempotency_key: Annotated[str, Header(max_length=200)] = "",
) -> JobView:
    """Post a job: as JSON that names uploaded files, or as a form that may contain them.

    An accepted job is run exactly once, or its failure reported, even if the service is killed. An idempotency key
    makes it safe to post the job again when the response was lost. Status 429 means that the queue is full;
    Retry-After says when to try again.
    """
    owner = request.state.owner
    if known := await run_in_threadpool(service.known, owner, idempotency_key):
        return view_of(known)
    if service.is_full:
        raise QueueFull
    asked = await _job_request(request, service)
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
    """The state of a job."""
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
    """Follow a job: a `progress` event at every change, then an `end` event, each with the job as JSON."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(service, status), media_type="text/event-stream", headers=headers)


@router.get(
    "/jobs/{job}/result",
    tags=["jobs"],
    responses=refusals(401, 404, 409, 410) | {200: {"content": {"image/*": {}, "video/*": {}}}},
    response_class=FileResponse,
)
def get_result(status: Known, service: Shared, compare: bool = False) -> FileResponse:
    """Fetch the result of a job that is done; with `compare`, the comparison, if the job was asked for one."""
    record = status.record
    if record.state == "expired":
        raise HTTPException(410, "this result is no longer kept: post the job again")
    if record.state != "done":
        reason = record.error or "fetch its result when it is done"
        raise HTTPException(409, f"the job is {record.state}: {reason}")
    path = service.workers.result(record, compare)
    if not path.is_file():
        raise HTTPException(404, "the job was not asked to compare: post it with the option compare")
    return FileResponse(path, filename=f"{record.kind}-{record.id[:8]}{record.suffix}")


@router.delete("/jobs/{job}", tags=["jobs"], status_code=202, responses=refusals(401, 404))
def delete_job(job: str, status: Known, service: Shared) -> JobView:
    """Stop a job after its current frames, within a second or two; delete the result of one that is done."""
    service.cancel(job)
    return view_of(service.status(job) or status)


async def _posted_file(request: Request, service: Service) -> tuple[Upload, bool]:
    """Keep the file of a form; the upload, and whether it is new."""
    async with request.form(max_files=1, max_fields=1, max_part_size=_MAX_FIELD_BYTES) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise HTTPException(
                422,
                "file is missing: send a form whose field `file` holds a picture, video, sound or template",
            )
        return await run_in_threadpool(service.keep, file.file, file.filename or "file")


async def _job_request(request: Request, service: Service) -> JobRequest:
    """The job that a request asks for; files that come with it are kept."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            return _validated(json.loads(await request.body()))
        except (ValueError, RecursionError) as error:
            raise HTTPException(422, f"the body is not JSON: {error}") from error
    if kind != "multipart/form-data":
        raise HTTPException(
            415,
            f"the content type is {kind or 'missing'}: post a job as application/json or multipart/form-data",
        )
    async with request.form(
        max_files=_MAX_FILES, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES
    ) as form:
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
        raise HTTPException(422, f"options are not JSON: {error}") from error


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
    """The events of a job until it ends, or the service does: clients then reconnect."""
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
        elif silent >= _KEEP_ALIVE_S:
            yield ": alive\n\n"
            silent = 0.0
        await asyncio.sleep(_POLL_S)
        silent += _POLL_S
        found = await run_in_threadpool(service.status, job)
        if found is None:
            return
        status = found
