"""Every path by which TorchServe's clients ask for a prediction, and what handlers see of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, running

# Says what it got.
MIRROR = """
    def handle(data, context):
        if data is None: return None
        if context.get_request_header(0, "describe") == "True":
            return [{"who": "me"}]
        seen = context.get_all_request_header(0)
        names = ("explain", "url_path")
        return [{
            "row": {name: str(value) for name, value in data[0].items()},
            "headers": {name: seen.get(name) for name in names},
            "version": context.manifest["model"]["modelVersion"],
        }]
"""
DOUBLER = """
    def handle(data, context):
        if data is None: return None
        return [[2 * number for number in data]] if isinstance(data, list) else None
"""
BOTH = {"explain": "False", "url_path": ""}
NEITHER = {"explain": None, "url_path": None}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    folder = tmp_path_factory.mktemp("routes")
    first = make_archive(folder, "mirror", MIRROR)
    with running(folder, "--models", f"mirror={first}") as daemon:
        daemon.register(make_archive(folder, "mirror", MIRROR, version="2.0"))
        yield daemon


def ask(
    daemon: RunningDaemon, path: str, body: bytes = b"b", **headers: str
) -> tuple[int, dict[str, Any]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = daemon.call("POST", path, body, named, door=daemon.runtime_dir / "http.sock")
    return answer.status, answer.json()


@pytest.mark.parametrize(
    ("path", "version", "row", "headers"),
    [
        ("/predictions/mirror?q=1", "1.0", {}, BOTH),
        ("/predictions/mirror/2.0/a/b", "2.0", {}, BOTH | {"url_path": "a/b"}),
        ("/explanations/mirror", "1.0", {}, BOTH | {"explain": "True"}),
        ("/models/mirror/invoke?q=1", "1.0", {"q": "bytearray(b'1')"}, NEITHER),
        ("/mirror/predict?q=%20", "1.0", {"q": "bytearray(b' ')"}, NEITHER),
        ("/mirror/2.0/predict", "2.0", {}, NEITHER),
        ("/v1/models/mirror:predict", "1.0", {}, NEITHER | {"explain": "False"}),
        ("/v1/models/mirror:explain", "1.0", {}, NEITHER | {"explain": "True"}),
        ("/v2/models/mirror/infer", "1.0", {}, NEITHER | {"explain": "False"}),
        ("/v2/models/mirror/explain", "1.0", {}, NEITHER | {"explain": "True"}),
        # One model was loaded at the start: it is the one that is meant.
        ("/invocations", "1.0", {}, NEITHER),
        (
            "/invocations?model_name=mirror&q=1",
            "1.0",
            {"model_name": "bytearray(b'mirror')", "q": "bytearray(b'1')"},
            NEITHER,
        ),
    ],
)
def test_a_path_finds_its_model_and_says_what_it_should(
    daemon: RunningDaemon, path: str, version: str, row: dict[str, str], headers: dict[str, Any]
) -> None:
    status, seen = ask(daemon, path)
    assert status == 200
    assert seen == {
        "row": {**row, "body": "bytearray(b'b')"},
        "headers": headers,
        "version": version,
    }


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/predictions", 404, "ResourceNotFoundException"),
        ("/predictions/nobody", 404, "ModelNotFoundException"),
        ("/predictions/mirror/9", 404, "ModelVersionNotFoundException"),
        ("/invocations?model_name=nobody", 404, "ModelNotFoundException"),
        ("/invocations/mirror", 404, "ResourceNotFoundException"),
        ("/models/nobody/invoke", 404, "ModelNotFoundException"),
        ("/nobody/predict", 404, "ModelNotFoundException"),
        ("/v1/models/mirror:train", 404, "ResourceNotFoundException"),
        ("/v1/models/nobody:predict", 404, "ModelNotFoundException"),
        ("/invocations?" + "a=1&" * 70 + "a=1", 400, "BadRequestException"),
    ],
)
def test_a_path_to_nobody_says_so(daemon: RunningDaemon, path: str, status: int, kind: str) -> None:
    got, error = ask(daemon, path)
    assert (got, error["code"], error["type"]) == (status, status, kind)


FORM = b'--B\r\ncontent-disposition: form-data; name="model_name"\r\n\r\nmirror\r\n--B--\r\n'


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"a=1&model_name=mirror", "application/x-www-form-urlencoded", 200),
        (FORM, "multipart/form-data; boundary=B", 200),
        (FORM.replace(b"mirror", b"nobody"), "multipart/form-data; boundary=B", 404),
        (FORM.replace(b"model_name", b"name"), "multipart/form-data; boundary=B", 400),
        (b"junk", "multipart/form-data; boundary=B", 400),
        (b"a=1", "application/x-www-form-urlencoded", 400),
        (b'{"model_name": "mirror"}', "application/json", 400),
        (b"", "text/plain", 400),
    ],
)
def test_without_a_model_of_its_own_invocations_looks_into_the_form(
    tmp_path: Path, body: bytes, content_type: str, status: int
) -> None:
    with running(tmp_path) as daemon:
        daemon.register(make_archive(tmp_path, "mirror", MIRROR))
        got, answer = ask(daemon, "/invocations", body, Content_Type=content_type)
        assert got == status, answer
        if status == 200:
            assert answer["row"]["model_name"] == "bytearray(b'mirror')"


def test_handlers_say_what_they_are_when_asked(daemon: RunningDaemon) -> None:
    answer = daemon.call("GET", "/models/mirror?customized=true").json()
    assert answer[0]["customizedMetadata"] == {"who": "me"}
    assert "customizedMetadata" not in daemon.call("GET", "/models/mirror").json()[0]


@pytest.mark.parametrize(
    ("envelope", "path", "sent", "answer"),
    [
        ("json", "/predictions/doubler", {"instances": [1, 2]}, {"predictions": [2, 4]}),
        ("kserve", "/v1/models/doubler:predict", {"instances": [3]}, {"predictions": [[6]]}),
    ],
)
def test_an_envelope_is_opened_for_the_handler(
    tmp_path: Path, envelope: str, path: str, sent: object, answer: object
) -> None:
    handler = (
        DOUBLER if envelope == "kserve" else DOUBLER.replace("[[2 *", "[2 *").replace("]]", "]")
    )
    with running(tmp_path, environment={"TSD_SERVING_ENVELOPE": envelope}) as daemon:
        daemon.register(make_archive(tmp_path, "doubler", handler))
        body = json.dumps(sent).encode()
        assert ask(daemon, path, body, Content_Type="application/json") == (200, answer)


def test_an_answer_above_the_limit_is_refused_and_the_worker_lives(tmp_path: Path) -> None:
    large = "def handle(data, context):\n    return data and ['x' * int(data[0]['body'])]\n"
    environment = {"TSD_SERVING_MAX_ANSWER_BYTES": "100000"}
    with running(tmp_path, environment=environment) as daemon:
        daemon.register(make_archive(tmp_path, "large", large))
        pids = daemon.worker_pids("large")
        assert daemon.call("POST", "/predictions/large", b"100000").status == 200
        refused = daemon.call("POST", "/predictions/large", b"100001")
        assert (refused.status, refused.json()["message"]) == (500, "Worker died.")
        assert daemon.worker_pids("large") == pids
