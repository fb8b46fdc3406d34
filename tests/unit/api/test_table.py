"""What may be asked at each door, by whom."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from tests.unit.http.wire import Client
from tsd.api.access import CONTROL
from tsd.api.answers import json_answer
from tsd.api.openapi import OpenApi
from tsd.api.routes import Call, Router
from tsd.api.table import LOCAL, Handlers, Table, sections_of_doors
from tsd.api.tokens import Kind, Tokens
from tsd.http.message import Request, Response
from tsd.serving.registry import Registry
from tsd.settings import AccessSettings, Config, DoorSettings, TorchServeSettings

OPEN = ("OPTIONS /", "GET /api-description", "POST /api-description")
APART = DoorSettings(http="127.0.0.1:1", management="127.0.0.1:2", metrics="127.0.0.1:3")
TOGETHER = DoorSettings(http="127.0.0.1:1", management="127.0.0.1:1", metrics="127.0.0.1:3")
NATIVE = TorchServeSettings()
STRICT = TorchServeSettings(is_strict=True)


async def answer(_call: Call) -> Response:
    return json_answer({})


def predict(request: Request, _segments: list[str]) -> None:
    request.respond(json_answer({}))


HANDLERS = Handlers(
    predictions={"predictions": predict, "/models/{model}/invoke": predict},
    ping={("*", "/ping"): answer},
    health={("*", "/ping"): answer, ("GET", "/v2/health/ready"): answer},
    management={
        ("GET", "/models"): answer,
        ("POST", "/models"): answer,
        ("GET", "/models/{model}"): answer,
        ("DELETE", "/models/{model}"): answer,
        ("GET", "/models/{model}/{version}"): answer,
        ("DELETE", "/models/{model}/{version}"): answer,
    },
    metrics={("*", "/metrics"): answer},
    operator={("GET", "/tsd/status"): answer},
    runtimes={("GET", "/tsd/runtimes"): answer},
    reload={("POST", "/tsd/reload"): answer},
    openapi=OpenApi(Registry()),
)


class House:
    """The doors of one configuration."""

    def __init__(self, folder: Path, config: Config, *, has_tokens: bool = False) -> None:
        self._path = folder / "key_file.json"
        tokens = Tokens(self._path, 60.0) if has_tokens else None
        if tokens is not None:
            tokens.publish()
        self._router = Router(Table(HANDLERS, config, tokens).of_doors())

    def status(self, door: str, asked: str, kind: Kind | None = None) -> int:
        """What is answered at a door, with the token of that kind."""
        lines = ["Host: h"]
        if kind is not None:
            key = json.loads(self._path.read_text())[kind]["key"]
            lines.append(f"Authorization: Bearer {key}")
        head = "\r\n".join([f"{asked} HTTP/1.1", *lines, "", ""])
        return asyncio.run(self._status(door, head.encode()))

    async def _status(self, door: str, head: bytes) -> int:
        client = Client(self._router.handle, door=door)
        client.send(head)
        while not client.got:
            await asyncio.sleep(0)
            client.turn()
        return int(client.got.split(b" ")[1])


def house(
    folder: Path,
    doors: DoorSettings = APART,
    torchserve: TorchServeSettings = NATIVE,
    *,
    has_tokens: bool = False,
) -> House:
    return House(folder, Config(doors=doors, torchserve=torchserve), has_tokens=has_tokens)


def test_each_door_has_its_own_section(tmp_path: Path) -> None:
    plain = house(tmp_path)
    for asked, doors in (
        ("POST /predictions/m", {"http", LOCAL, CONTROL}),
        ("GET /models", {"management", CONTROL}),
        ("GET /tsd/status", {"management", CONTROL}),
        ("GET /tsd/runtimes", {CONTROL}),
        ("GET /metrics", {"metrics", CONTROL}),
        ("GET /ping", {"http", LOCAL, CONTROL, "metrics"}),
        ("GET /v2/health/ready", {"http", LOCAL, CONTROL, "metrics"}),
        ("OPTIONS /", {"http", LOCAL, CONTROL, "metrics", "management"}),
        ("GET /workflows", {"management", CONTROL}),
    ):
        for door in ("http", "management", "metrics", LOCAL, CONTROL):
            assert plain.status(door, asked) == (200 if door in doors else 404), (asked, door)


def test_nothing_but_torchserves_own_is_there_in_its_place(tmp_path: Path) -> None:
    strict = house(tmp_path, APART, STRICT)
    assert strict.status("http", "GET /ping") == 200
    for door, asked in (
        ("http", "GET /v2/health/ready"),
        ("http", "GET /v2"),
        ("metrics", "GET /ping"),
        ("management", "GET /tsd/status"),
    ):
        assert strict.status(door, asked) == 404, asked
    assert strict.status(CONTROL, "GET /tsd/status") == 200


def test_open_inference_is_torchserves_where_it_is_asked_for(tmp_path: Path) -> None:
    strict = house(tmp_path, APART, TorchServeSettings(is_strict=True, open_inference=True))
    for asked in ("GET /v2", "POST /v2/health/live", "GET /v2/health/ready"):
        assert strict.status("http", asked) == 200, asked
    for asked in ("POST /v2/models/m/versions/1/infer", "GET /v2/models/m/versions/1"):
        assert strict.status("http", asked) == 501, asked


def test_tokens_are_asked_for_at_the_doors_of_the_network(tmp_path: Path) -> None:
    guarded = house(tmp_path, has_tokens=True)
    wanted: dict[str, tuple[Kind, tuple[str, ...]]] = {
        "http": ("inference", ("POST /predictions/m", "GET /ping")),
        "management": ("management", ("GET /models", "POST /models", "OPTIONS /models/m")),
    }
    for door, (kind, asked) in wanted.items():
        for one in asked:
            assert guarded.status(door, one) == 400, one
            assert guarded.status(door, one, "API") == 400, one
            assert guarded.status(door, one, kind) in (200, 404), one
        assert guarded.status(door, "GET /nothing") == 400
        assert guarded.status(door, "GET /nothing", "API") == 400
        assert guarded.status(door, "GET /nothing", kind) == 404
        for one in OPEN:
            assert guarded.status(door, one) == 200, one
        assert guarded.status(door, "GET /") == 405
    assert guarded.status("metrics", "GET /metrics") == 200
    assert guarded.status("metrics", "GET /nothing") == 404
    for door in (LOCAL, CONTROL):
        assert guarded.status(door, "POST /predictions/m") == 200


def test_tokens_are_renewed_at_the_door_of_management_only(tmp_path: Path) -> None:
    guarded = house(tmp_path, has_tokens=True)
    assert guarded.status("management", "GET /token?type=inference", "API") == 200
    assert guarded.status("management", "GET /token?type=inference", "management") == 400
    assert guarded.status("http", "GET /token?type=inference", "API") == 400
    assert house(tmp_path).status("management", "GET /token?type=inference") == 404


def test_models_come_and_go_by_the_control_socket_where_tcp_may_not(tmp_path: Path) -> None:
    config = Config(doors=APART, access=AccessSettings(model_api=False))
    closed = House(tmp_path, config)
    for asked in ("POST /models", "DELETE /models/m", "DELETE /models/m/1.0"):
        assert closed.status("management", asked) == 405, asked
        assert closed.status(CONTROL, asked) == 200, asked
    assert closed.status("management", "GET /models") == 200


def test_one_door_for_several_sections_asks_for_the_token_of_each(tmp_path: Path) -> None:
    shared = house(tmp_path, TOGETHER, has_tokens=True)
    for asked, kind in (
        ("POST /predictions/m", "inference"),
        ("POST /models/m/invoke", "inference"),
        ("GET /models", "management"),
        ("GET /models/m/1.0", "management"),
        ("GET /token?type=management", "API"),
    ):
        kinds: tuple[Kind, ...] = ("inference", "management", "API")
        for offered in kinds:
            expected = 200 if offered == kind else 400
            assert shared.status("http", asked, offered) == expected, (asked, offered)
    assert shared.status("http", "GET /metrics") == 200
    assert shared.status("http", "GET /nothing") == 400
    assert shared.status("http", "GET /nothing", "management") == 404


def test_paths_that_torchserve_has_not_on_one_port_are_not_there_in_its_place(
    tmp_path: Path,
) -> None:
    assert house(tmp_path, TOGETHER).status("http", "GET /models/m/1.0") == 200
    strict = house(tmp_path, TOGETHER, STRICT)
    assert strict.status("http", "GET /models/m/1.0") == 404
    assert strict.status("http", "GET /models/m") == 200
    assert house(tmp_path, APART, STRICT).status("management", "GET /models/m/1.0") == 200


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"http": ("http",), "management": ("management",), "metrics": ("metrics",)}),
        ({"management": "none"}, {"http": ("http",), "metrics": ("metrics",)}),
        (
            {"management": "127.0.0.1:3"},
            {"http": ("http",), "management": ("management", "metrics")},
        ),
        (
            {"management": "localhost:1"},
            {"http": ("http", "management", "metrics"), "metrics": ("metrics",)},
        ),
        (
            {"management": "127.0.0.1:1", "metrics": "none"},
            {"http": ("http", "management")},
        ),
        (
            {"management": "127.0.0.1:1", "metrics": "127.0.0.1:1"},
            {"http": ("http", "management", "metrics")},
        ),
        (
            {"http": "127.0.0.1:0", "management": "127.0.0.1:0", "metrics": "/run/m"},
            {"http": ("http",), "management": ("management",), "metrics": ("metrics",)},
        ),
        (
            {"http": "/run/s", "management": "/run/s", "metrics": "none"},
            {"http": ("http", "management")},
        ),
    ],
)
def test_equal_addresses_are_one_door(
    changes: dict[str, str], expected: dict[str, tuple[str, ...]]
) -> None:
    assert sections_of_doors(msgspec.structs.replace(APART, **changes)) == expected
