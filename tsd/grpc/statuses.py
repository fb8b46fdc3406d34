"""Errors as gRPC statuses: TorchServe's codes, and its details of two lines.

The first line is the message, the second one the name of TorchServe's own exception."""

from __future__ import annotations

from dataclasses import dataclass

from grpc import StatusCode

from tsd.errors import (
    ArchiveExists,
    MissingName,
    ModelNotFound,
    NoWorkers,
    QueueFull,
    TsdError,
    VersionNotFound,
)

HTTP_STATUSES = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    409: StatusCode.ABORTED,
    413: StatusCode.RESOURCE_EXHAUSTED,
    416: StatusCode.OUT_OF_RANGE,
    429: StatusCode.RESOURCE_EXHAUSTED,
    499: StatusCode.CANCELLED,
    501: StatusCode.UNIMPLEMENTED,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}
"""The code for a status that a handler or a worker gave."""

PACKAGES = {
    "ModelException": "org.pytorch.serve.archive.model",
    "ModelNotFoundException": "org.pytorch.serve.archive.model",
    "ModelVersionNotFoundException": "org.pytorch.serve.archive.model",
    "InvalidModelException": "org.pytorch.serve.archive.model",
    "DownloadArchiveException": "org.pytorch.serve.archive",
}
"""Where TorchServe's exceptions are at home; those that are not here, in `http`."""

NO_MODEL = (MissingName, ModelNotFound, VersionNotFound)
NO_WORKER = (NoWorkers, QueueFull)
SECOND_LINES = {
    MissingName: "BadRequestException.()",
    NoWorkers: "InternalServerException.()",
    QueueFull: "InternalServerException.()",
}


@dataclass(frozen=True, slots=True)
class CallStatus:
    """How a call ends that does not end well."""

    code: StatusCode
    details: str


def of_prediction(error: TsdError) -> CallStatus:
    """As TorchServe's inference service: what it refuses by itself is INTERNAL."""
    code = StatusCode.INTERNAL
    if not isinstance(error, (*NO_MODEL, *NO_WORKER)):
        code = _code(error.torchserve_status or error.status)
    return CallStatus(code, details(error))


def of_change(error: TsdError) -> CallStatus:
    """As TorchServe's management service."""
    name = "INTERNAL" if isinstance(error, ArchiveExists) else error.grpc_status
    return CallStatus(StatusCode[name], details(error))


def details(error: TsdError) -> str:
    """The message, and the name of the exception."""
    return f"{error}\n{reason(error)}"


def reason(error: TsdError) -> str:
    """The name of TorchServe's exception."""
    package = PACKAGES.get(error.torchserve_type, "org.pytorch.serve.http")
    return SECOND_LINES.get(type(error), f"{package}.{error.torchserve_type}")


def _code(status: int) -> StatusCode:
    other = StatusCode.FAILED_PRECONDITION if status < 500 else StatusCode.INTERNAL
    return HTTP_STATUSES.get(status, other)
