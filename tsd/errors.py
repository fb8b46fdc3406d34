"""Every named error, with the status it becomes at each kind of door.

An error is raised where it is known and becomes a status only in `api/`. `status` holds on tsd's
own and on standard routes; TorchServe's routes keep the status and the type that its clients know
(`torchserve_status`, `torchserve_type`). The text of `str(error)` may be shown to clients: it
names no path and holds no traceback. `why` and `fix` are for operators."""

from __future__ import annotations


class TsdError(Exception):
    """What went wrong, and for operators: why, what to do about it, and a handler's traceback."""

    status = 500
    grpc_status = "INTERNAL"
    code = "internal"
    torchserve_status: int | None = None
    torchserve_type = "InternalServerException"
    retry_after_s: float | None = None

    def __init__(self, what: str, *, why: str = "", fix: str = "", traceback: str = "") -> None:
        super().__init__(what)
        self.why = why
        self.fix = fix
        self.traceback = traceback


# What a client asked for is wrong.


class BadRequest(TsdError):
    """The request cannot be understood."""

    status, grpc_status, code = 400, "INVALID_ARGUMENT", "bad_request"
    torchserve_type = "BadRequestException"


class MissingName(BadRequest):
    """The request names no model. (INTERNAL: TorchServe's word for it.)"""

    grpc_status, code = "INTERNAL", "missing_name"


class ModelApiDisabled(TsdError):
    """Models do not come and go by this door."""

    status, grpc_status, code = 403, "PERMISSION_DENIED", "model_api_disabled"
    torchserve_type = "ModelException"


class UnknownRoute(TsdError):
    """No such path at this door."""

    status, grpc_status, code = 404, "UNIMPLEMENTED", "unknown_route"
    torchserve_type = "ResourceNotFoundException"


class MalformedTarget(BadRequest):
    """The request's path or query is not percent-encoded as it should be."""

    code = "malformed_target"
    torchserve_status, torchserve_type = 403, "IllegalArgumentException"


class MalformedJson(BadRequest):
    """A body that should be JSON is not, or is JSON of another shape."""

    code = "malformed_json"
    torchserve_status, torchserve_type = 500, "JsonSyntaxException"


class TokenRefused(TsdError):
    """The caller's token is missing, wrong or expired."""

    status, grpc_status, code = 401, "PERMISSION_DENIED", "token_refused"
    torchserve_status, torchserve_type = 400, "InvalidKeyException"


class WorkflowNotFound(TsdError):
    """No such workflow: there are none."""

    status, grpc_status, code = 404, "NOT_FOUND", "workflow_not_found"
    torchserve_type = "WorkflowNotFoundException"


class MethodNotAllowed(TsdError):
    """The path is known, the method is not."""

    status, grpc_status, code = 405, "UNIMPLEMENTED", "method_not_allowed"
    torchserve_type = "MethodNotAllowedException"


class ModelNotFound(TsdError):
    """No model, or no archive, of that name."""

    status, grpc_status, code = 404, "NOT_FOUND", "model_not_found"
    torchserve_type = "ModelNotFoundException"


class VersionNotFound(TsdError):
    """The model is known, the version is not."""

    status, grpc_status, code = 404, "NOT_FOUND", "version_not_found"
    torchserve_type = "ModelVersionNotFoundException"


class InvalidArchive(TsdError):
    """An archive that is damaged, unsafe or incomplete."""

    status, grpc_status, code = 400, "INVALID_ARGUMENT", "invalid_archive"
    torchserve_type = "InvalidModelException"


class ArchiveTooLarge(InvalidArchive):
    """An archive that would unpack to more than the limits allow."""

    status, code = 413, "archive_too_large"


class DownloadFailed(TsdError):
    """An archive could not be had from its URL, or must not be fetched from there."""

    status, grpc_status, code = 400, "INVALID_ARGUMENT", "download_failed"
    torchserve_type = "DownloadArchiveException"


class ArchiveExists(TsdError):
    """The model store has a file of the name that a URL ends with."""

    status, grpc_status, code = 409, "ALREADY_EXISTS", "archive_exists"
    torchserve_status = 500


class RequirementsFailed(TsdError):
    """What a model's requirements.txt asks for could not be installed."""

    status, grpc_status, code = 400, "FAILED_PRECONDITION", "requirements_failed"
    torchserve_type = "ModelException"


class UnknownRuntime(BadRequest):
    """No runtime of that name."""

    code = "unknown_runtime"


class RuntimeRefused(TsdError):
    """An interpreter that cannot run workers, or an environment that could not be made."""

    status, grpc_status, code = 400, "FAILED_PRECONDITION", "runtime_refused"


class RuntimeInUse(TsdError):
    """The runtime is not to be changed: models use it, or it is not the operator's."""

    status, grpc_status, code = 409, "FAILED_PRECONDITION", "runtime_in_use"
    torchserve_type = "ConflictStatusException"


class AlreadyRegistered(TsdError):
    """That version of that model is registered."""

    status, grpc_status, code = 409, "ALREADY_EXISTS", "already_registered"
    torchserve_type = "ConflictStatusException"


class Busy(TsdError):
    """Another change to the same model is under way."""

    status, grpc_status, code = 409, "ABORTED", "busy"
    torchserve_type = "ConflictStatusException"


class IsDefaultVersion(TsdError):
    """The default version cannot be removed while others exist."""

    status, grpc_status, code = 403, "FAILED_PRECONDITION", "is_default_version"
    torchserve_type = "InvalidModelVersionException"


# The model cannot serve now.


class Unavailable(TsdError):
    """Nobody can serve the request now; it may be tried again."""

    status, grpc_status, code = 503, "UNAVAILABLE", "unavailable"
    torchserve_type = "ServiceUnavailableException"


class NoRuntime(Unavailable):
    """No interpreter that has torch is known."""

    grpc_status, code = "FAILED_PRECONDITION", "no_runtime"


class NoWorkers(Unavailable):
    """The model has no worker and none is coming."""

    code = "no_workers"


class QueueFull(Unavailable):
    """The model's queue is at its bound."""

    code, retry_after_s = "queue_full", 1.0


class NoRoom(Unavailable):
    """The model's request arena stayed full until the deadline."""

    code, retry_after_s = "no_room", 1.0


class Draining(Unavailable):
    """The model, or the daemon, takes nothing new."""

    code, retry_after_s = "draining", 1.0


class ModelFailed(Unavailable):
    """The model's workers die or cannot be loaded; a trial start comes later."""

    code = "model_failed"


# The request reached a worker, or waited for one.


class DeadlinePassed(TsdError):
    """No answer came within the request's deadline."""

    status, grpc_status, code = 504, "DEADLINE_EXCEEDED", "deadline_passed"
    torchserve_type = "RequestTimeoutException"


class WorkerDied(TsdError):
    """The worker died and the job could not be given to another one."""

    status, grpc_status, code = 502, "UNAVAILABLE", "worker_died"
    torchserve_status = 500


class WorkerHung(TsdError):
    """The worker overran its response timeout and was killed."""

    status, grpc_status, code = 504, "DEADLINE_EXCEEDED", "worker_hung"
    torchserve_status = 500


class HandlerRaised(TsdError):
    """The model's handler raised an exception."""

    status, grpc_status, code = 500, "INTERNAL", "handler_raised"
    torchserve_status = 503


class BadOutput(HandlerRaised):
    """The handler returned something that cannot be sent."""

    code = "bad_output"


class AnswerTooLarge(TsdError):
    """The handler's answer is larger than the configuration allows."""

    status, grpc_status, code = 502, "RESOURCE_EXHAUSTED", "answer_too_large"
    torchserve_status = 500


class SlowClient(TsdError):
    """The client reads its streamed answer too slowly: too much of it waits."""

    status, grpc_status, code = 429, "RESOURCE_EXHAUSTED", "slow_client"


class OutOfResources(TsdError):
    """The handler ran out of memory, on the host or on the device."""

    status, grpc_status, code = 503, "RESOURCE_EXHAUSTED", "out_of_resources"
    torchserve_status, retry_after_s = 507, 1.0


class PredictionRefused(TsdError):
    """The handler raised `PredictionException`: its own status and text go to the client."""

    code = "prediction_refused"

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what)
        self.status = status


# The operator's side.


class StartFailed(TsdError):
    """A model's workers did not get ready."""

    code = "start_failed"


class StateNotSaved(TsdError):
    """The desired state could not be written; the change was not made."""

    status, grpc_status, code = 507, "RESOURCE_EXHAUSTED", "state_not_saved"


class ConfigError(TsdError):
    """The configuration is wrong; the daemon does not start (exit status 78, EX_CONFIG)."""

    status, grpc_status, code = 400, "INVALID_ARGUMENT", "config"


class StartupError(TsdError):
    """The daemon cannot start here: a port in use, another daemon, a missing folder."""

    code = "startup"


class ProtocolError(TsdError):
    """The other end of a channel broke the wire format; it is killed, not trusted."""

    code = "protocol"
