"""OpenAPI documents: what may be asked at a door, and of one model.

Paths, names of operations and parameters are TorchServe's, since clients are generated from them.
Who may read a document, and where, is said in table.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tsd.api import answers
from tsd.api.routes import Call, CallHandler
from tsd.http.message import Response
from tsd.runtimes.book import DEFAULT_WORDS
from tsd.serving.registry import Registry
from tsd.version import own_version

OPENAPI = "3.0.1"
Document = dict[str, Any]
Section = Literal["http", "management", "metrics"]
SECTIONS: tuple[Section, ...] = ("http", "management", "metrics")


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a caller may say in the query."""

    name: str
    about: str
    type: str = "string"
    default: object = None
    is_required: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path; `statuses` besides 200: meanings of errors, and of 202 and 206."""

    name: str
    about: str
    answer: Document
    parameters: tuple[Parameter, ...] = ()
    statuses: Mapping[int, str] = field(default_factory=dict)
    has_body: bool = False


def _object(*required: str, **members: Document) -> Document:
    return {"type": "object", "required": list(required), "properties": members}


def _json(schema: Document) -> Document:
    return {"application/json": {"schema": schema}}


TEXT: Document = {"type": "string"}
NUMBER: Document = {"type": "integer"}
ANYTHING: Document = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
STATUS = _json(_object("status", status=TEXT))
ERROR = _json(_object("code", "type", "message", code=NUMBER, type=TEXT, message=TEXT))
DESCRIPTION = _json({"type": "array", "items": {"type": "object"}})
MODEL_ROW = _object("modelName", "modelUrl", modelName=TEXT, modelUrl=TEXT)
MODEL_LIST = _json(
    _object("models", nextPageToken=TEXT, models={"type": "array", "items": MODEL_ROW})
)
API_DOCUMENT = _json(
    _object(
        "openapi", "info", "paths", openapi=TEXT, info={"type": "object"}, paths={"type": "object"}
    )
)

PATH_PARAMETERS = {
    "model_name": "The model's name.",
    "model_version": "One of the model's versions.",
}
UNKNOWN_MODEL = {404: "No such model, or no such version of it."}
FAILED = {500: "The server failed."}

READ_API = Operation("apiDescription", "This document.", API_DOCUMENT)
READ_API_TOO = Operation("api-description", "This document, by any method.", API_DOCUMENT)
PREDICT = Operation(
    "predictions",
    "Ask the model; what it takes and gives is the model's own affair.",
    ANYTHING,
    statuses=UNKNOWN_MODEL | {503: "No worker can take the request now."},
    has_body=True,
)
DESCRIBE = Operation(
    "describeModel",
    "Settings, workers and queue of a model.",
    DESCRIPTION,
    (
        Parameter(
            "customized", "Whether to ask the model's handler, too.", "boolean", default=False
        ),
    ),
    UNKNOWN_MODEL,
)
SCALE = Operation(
    "setAutoScale",
    "Bring a model's workers up to the least number or down to the most.",
    STATUS,
    (
        Parameter("min_worker", "Least number of workers.", "integer", 1),
        Parameter("max_worker", "Most workers; as many as the least unless given.", "integer"),
        Parameter("synchronous", "Whether to wait for the workers.", "boolean", default=False),
        Parameter("batch_size", "Most requests of one batch, from now on.", "integer"),
        Parameter("max_batch_delay", "Milliseconds to wait for a full batch.", "integer"),
    ),
    UNKNOWN_MODEL | {202: "Workers are on their way.", 400: "The numbers contradict each other."},
)
UNREGISTER = Operation(
    "unregisterModel",
    "Remove a model once its running requests are answered.",
    STATUS,
    statuses=UNKNOWN_MODEL | {403: "It is the default version, and there are others."},
)
SET_DEFAULT = Operation(
    "setDefault",
    "Make a version the one that answers when none is named.",
    STATUS,
    statuses=UNKNOWN_MODEL,
)
LIST = Operation(
    "listModels",
    "The registered models, by name.",
    MODEL_LIST,
    (
        Parameter("limit", "Most models of one page.", "integer", 100),
        Parameter("next_page_token", "Where this page begins: from the page before."),
    ),
)
REGISTER = Operation(
    "registerModel",
    "Register a model archive.",
    STATUS,
    (
        Parameter("url", "A name in the model store, or a URL that is allowed.", is_required=True),
        Parameter("model_name", "In place of the archive's own."),
        Parameter("handler", "In place of the archive's own."),
        Parameter("runtime", "In place of the archive's own.", choices=DEFAULT_WORDS),
        Parameter("batch_size", "Most requests of one batch.", "integer", 1),
        Parameter("max_batch_delay", "Milliseconds to wait for a full batch.", "integer", 100),
        Parameter("response_timeout", "Seconds that a batch may take.", "integer", 120),
        Parameter("startup_timeout", "Seconds that a worker may take to load.", "integer", 120),
        Parameter("initial_workers", "Workers to start at once.", "integer", 0),
        Parameter("synchronous", "Whether to wait for the workers.", "boolean", default=True),
        Parameter("s3_sse_kms", "Whether S3 encrypts the archive.", "boolean", default=False),
    ),
    {
        202: "Workers are on their way.",
        400: "The request or the archive is wrong.",
        404: "No such archive.",
        409: "That version is registered.",
    },
)

ENTRANCE: dict[str, dict[str, Operation]] = {"/": {"options": READ_API}}
LAST: dict[str, dict[str, Operation]] = {"/api-description": {"get": READ_API_TOO}}
INFERENCE: dict[str, dict[str, Operation]] = {
    "/ping": {"get": Operation("ping", "Whether enough workers are there.", STATUS)},
    "/v1/models/{model_name}:predict": {"post": PREDICT},
    "/v2/models/{model_name}/infer": {"post": PREDICT},
    "/predictions/{model_name}": {"post": PREDICT},
    "/predictions/{model_name}/{model_version}": {"post": PREDICT},
}
ONE_MODEL: dict[str, dict[str, Operation]] = {
    "/models/{model_name}": {"get": DESCRIBE, "put": SCALE, "delete": UNREGISTER},
    "/models/{model_name}/{model_version}": {"get": DESCRIBE, "put": SCALE, "delete": UNREGISTER},
    "/models/{model_name}/{model_version}/set-default": {"put": SET_DEFAULT},
}
MANAGEMENT = {"/models": {"get": LIST, "post": REGISTER}} | ONE_MODEL
METRICS: dict[str, dict[str, Operation]] = {
    "/metrics": {
        "get": Operation(
            "metrics",
            "Figures in Prometheus' text format.",
            {"text/plain; version=0.0.4; charset=utf-8": {"schema": TEXT}},
            (Parameter("name[]", "Only these metrics."),),
        )
    }
}
OF_SECTIONS: dict[Section, dict[str, dict[str, Operation]]] = {
    "http": ENTRANCE | INFERENCE | LAST,
    "management": ENTRANCE | MANAGEMENT | LAST,
    "metrics": {},
}


class OpenApi:
    """The handlers that answer with documents."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def routes(self, sections: Iterable[Section]) -> dict[tuple[str, str], CallHandler]:
        """The document of a door, for everybody."""
        document = door_document(sections)

        async def read(_call: Call) -> Response:
            return answers.json_answer(document)

        return {("OPTIONS", "/"): read, ("*", "/api-description"): read}

    @property
    def model_routes(self) -> dict[tuple[str, str], CallHandler]:
        """How one model is managed."""
        patterns = ("/models/{model}", "/models/{model}/{version}")
        return {("OPTIONS", pattern): self.read_management for pattern in patterns}

    async def read_management(self, call: Call) -> Response:
        """`OPTIONS /models/{model}[/{version}]`: the model must be there."""
        model = self._registry.find(call.parts["model"], call.parts.get("version"))
        return answers.json_answer(management_document(model.name))


def door_document(sections: Iterable[Section]) -> Document:
    """Everything that may be asked at a door; the figures are told at all of them."""
    paths: dict[str, dict[str, Operation]] = {}
    for section in sections:
        paths |= OF_SECTIONS[section]
    about = "Predictions by PyTorch models, and their management."
    return _document("TorchServe APIs", own_version(), paths | METRICS, about)


def management_document(name: str) -> Document:
    """How one model is managed."""
    return _document(f"RESTful Management API for: {name}", own_version(), ONE_MODEL)


def model_document(name: str) -> Document:
    """How one model is asked. Its path is TorchServe's: there is no such route."""
    ask = Operation(name, f"Ask {name}.", ANYTHING, has_body=True)
    paths = (
        f"/prediction/{name}",
        "/v1/models/{model_name}:predict",
        "/v2/models/{model_name}/infer",
    )
    return _document(f"RESTful API for: {name}", "1.0.0", {path: {"post": ask} for path in paths})


def _document(
    title: str, version: str, paths: Mapping[str, Mapping[str, Operation]], about: str = ""
) -> Document:
    described = {
        path: {method: _operation(path, one) for method, one in methods.items()}
        for path, methods in paths.items()
    }
    told = {"description": about} if about else {}
    info = {"title": title, **told, "version": version}
    return {"openapi": OPENAPI, "info": info, "paths": described}


def _operation(path: str, operation: Operation) -> Document:
    is_versioned = path.endswith("{model_version}")
    named = [name for name in PATH_PARAMETERS if f"{{{name}}}" in path]
    body = {"requestBody": {"required": True, "content": ANYTHING}} if operation.has_body else {}
    return {
        "description": operation.about,
        "operationId": f"version_{operation.name}" if is_versioned else operation.name,
        "parameters": [
            *({"in": "path", **_named(name), "required": True, "schema": TEXT} for name in named),
            *(_query_parameter(parameter) for parameter in operation.parameters),
        ],
        **body,
        "responses": _answers(operation),
    }


def _named(name: str) -> Document:
    return {"name": name, "description": PATH_PARAMETERS[name]}


def _query_parameter(parameter: Parameter) -> Document:
    schema: Document = {"type": parameter.type}
    if parameter.default is not None:
        schema["default"] = parameter.default
    if parameter.choices:
        schema["enum"] = list(parameter.choices)
    return {
        "in": "query",
        "name": parameter.name,
        "description": parameter.about,
        "required": parameter.is_required,
        "schema": schema,
    }


def _answers(operation: Operation) -> Document:
    told = {"200": {"description": "It is done.", "content": operation.answer}}
    for status, meaning in sorted({**operation.statuses, **FAILED}.items()):
        content = STATUS if status < answers.FIRST_ERROR else ERROR
        told[str(status)] = {"description": meaning, "content": content}
    return told
