"""Errors as gRPC statuses, as the recorded cases have them."""

from __future__ import annotations

import pytest

from tsd.errors import (
    AlreadyRegistered,
    BadRequest,
    DeadlinePassed,
    HandlerRaised,
    IsDefaultVersion,
    MissingName,
    ModelApiDisabled,
    ModelNotFound,
    NoWorkers,
    OutOfResources,
    PredictionRefused,
    QueueFull,
    SlowClient,
    StartFailed,
    TsdError,
    VersionNotFound,
    WorkerDied,
)
from tsd.grpc.statuses import of_change, of_prediction

HTTP = "org.pytorch.serve.http"
ARCHIVE = "org.pytorch.serve.archive.model"


@pytest.mark.parametrize(
    ("error", "code", "second_line"),
    [
        (MissingName("x"), "INTERNAL", "BadRequestException.()"),
        (ModelNotFound("x"), "INTERNAL", f"{ARCHIVE}.ModelNotFoundException"),
        (VersionNotFound("x"), "INTERNAL", f"{ARCHIVE}.ModelVersionNotFoundException"),
        (NoWorkers("x"), "INTERNAL", "InternalServerException.()"),
        (QueueFull("x"), "INTERNAL", "InternalServerException.()"),
        (BadRequest("x"), "INVALID_ARGUMENT", f"{HTTP}.BadRequestException"),
        (HandlerRaised("x"), "UNAVAILABLE", f"{HTTP}.InternalServerException"),
        (OutOfResources("x"), "INTERNAL", f"{HTTP}.InternalServerException"),
        (WorkerDied("x"), "INTERNAL", f"{HTTP}.InternalServerException"),
        (DeadlinePassed("x"), "DEADLINE_EXCEEDED", f"{HTTP}.RequestTimeoutException"),
        (SlowClient("x"), "RESOURCE_EXHAUSTED", f"{HTTP}.InternalServerException"),
    ],
)
def test_predictions(error: TsdError, code: str, second_line: str) -> None:
    status = of_prediction(error)
    assert (status.code.name, status.details) == (code, f"x\n{second_line}")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (409, "ABORTED"),
        (413, "RESOURCE_EXHAUSTED"),
        (416, "OUT_OF_RANGE"),
        (418, "FAILED_PRECONDITION"),
        (429, "RESOURCE_EXHAUSTED"),
        (499, "CANCELLED"),
        (500, "INTERNAL"),
        (501, "UNIMPLEMENTED"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (507, "INTERNAL"),
    ],
)
def test_what_a_handler_refuses_with(status: int, code: str) -> None:
    assert of_prediction(PredictionRefused("no", status)).code.name == code


@pytest.mark.parametrize(
    ("error", "code", "second_line"),
    [
        (ModelNotFound("x"), "NOT_FOUND", f"{ARCHIVE}.ModelNotFoundException"),
        (BadRequest("x"), "INVALID_ARGUMENT", f"{HTTP}.BadRequestException"),
        (AlreadyRegistered("x"), "ALREADY_EXISTS", f"{HTTP}.ConflictStatusException"),
        (IsDefaultVersion("x"), "FAILED_PRECONDITION", f"{HTTP}.InvalidModelVersionException"),
        (StartFailed("x"), "INTERNAL", f"{HTTP}.InternalServerException"),
        (ModelApiDisabled("x"), "PERMISSION_DENIED", f"{ARCHIVE}.ModelException"),
    ],
)
def test_changes(error: TsdError, code: str, second_line: str) -> None:
    status = of_change(error)
    assert (status.code.name, status.details) == (code, f"x\n{second_line}")
