"""OpenAPI documents: TorchServe's titles, names and paths; nothing that is not served."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import pytest

from tsd.api.management import Management
from tsd.api.openapi import SECTIONS, Document, door_document, management_document, model_document
from tsd.api.routes import parts_of
from tsd.operations import Operations
from tsd.serving.registry import Registry


def named(document: Document) -> dict[str, str]:
    """Method and path -> operation's name."""
    return {
        f"{method.upper()} {path}": operation["operationId"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_the_door_of_predictions_has_torchserves_operations() -> None:
    document = door_document(("http",))
    assert document["openapi"] == "3.0.1"
    assert document["info"]["title"] == "TorchServe APIs"
    assert re.fullmatch(r"\d+\.\d+\.\d+", document["info"]["version"])
    assert named(document) == {
        "OPTIONS /": "apiDescription",
        "GET /ping": "ping",
        "POST /v1/models/{model_name}:predict": "predictions",
        "POST /v2/models/{model_name}/infer": "predictions",
        "POST /predictions/{model_name}": "predictions",
        "POST /predictions/{model_name}/{model_version}": "version_predictions",
        "GET /api-description": "api-description",
        "GET /metrics": "metrics",
    }


def test_the_door_of_management_has_torchserves_operations() -> None:
    assert named(door_document(("management",))) == {
        "OPTIONS /": "apiDescription",
        "GET /models": "listModels",
        "POST /models": "registerModel",
        "GET /models/{model_name}": "describeModel",
        "PUT /models/{model_name}": "setAutoScale",
        "DELETE /models/{model_name}": "unregisterModel",
        "GET /models/{model_name}/{model_version}": "version_describeModel",
        "PUT /models/{model_name}/{model_version}": "version_setAutoScale",
        "DELETE /models/{model_name}/{model_version}": "version_unregisterModel",
        "PUT /models/{model_name}/{model_version}/set-default": "setDefault",
        "GET /api-description": "api-description",
        "GET /metrics": "metrics",
    }


def test_the_door_of_metrics_tells_of_the_metrics_only() -> None:
    assert named(door_document(("metrics",))) == {"GET /metrics": "metrics"}


def test_a_door_for_everything_tells_of_everything() -> None:
    together = named(door_document(SECTIONS))
    assert together == named(door_document(("http",))) | named(door_document(("management",)))


def test_what_is_told_of_management_is_served() -> None:
    routes = Management(Registry(), cast(Operations, None)).routes
    for path, methods in management_document("m")["paths"].items():
        segments = path[1:].replace("{model_name}", "m").replace("{model_version}", "1").split("/")
        for method in methods:
            assert any(
                wanted == method.upper() and parts_of(pattern, segments) is not None
                for wanted, pattern in routes
            ), path


def test_one_model_is_told_of_under_torchserves_path() -> None:
    document = model_document("echo")
    assert document["info"] == {"title": "RESTful API for: echo", "version": "1.0.0"}
    assert list(document["paths"]) == [
        "/prediction/echo",
        "/v1/models/{model_name}:predict",
        "/v2/models/{model_name}/infer",
    ]
    assert document["paths"]["/prediction/echo"]["post"]["operationId"] == "echo"
    assert management_document("echo")["info"]["title"] == "RESTful Management API for: echo"


@pytest.mark.parametrize("section", SECTIONS)
def test_documents_are_whole_and_json(section: Any) -> None:
    document = door_document((section,))
    assert json.loads(json.dumps(document)) == document
    for path, methods in document["paths"].items():
        for operation in methods.values():
            in_path = [one["name"] for one in operation["parameters"] if one["in"] == "path"]
            assert in_path == re.findall(r"{(\w+)}", path)
            assert operation["description"]
            assert operation["responses"]["200"]["content"]
            assert operation["responses"]["500"]["description"]
