"""TorchServe's tokens as its clients use them: read the file, send the header, renew."""

from __future__ import annotations

import http.client
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, launched, running

REFUSED = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"


class Clients:
    """Whoever comes by TCP, with or without a token."""

    def __init__(self, daemon: RunningDaemon, key_file: Path) -> None:
        self.daemon = daemon
        self.key_file = key_file

    def key(self, kind: str) -> str:
        return str(json.loads(self.key_file.read_text())[kind]["key"])

    def ask(
        self, door: str, method: str, path: str, key: str = "", body: bytes | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.port(door), timeout=30)
        try:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    folder = tmp_path_factory.mktemp("tokens")
    key_file = folder / "key_file.json"
    environment = {
        "TSD_ACCESS_TOKENS": "true",
        "TSD_ACCESS_KEY_FILE": str(key_file),
        "TSD_ACCESS_MODEL_API": "false",
    }
    options = ("--management", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
    with running(folder, *options, environment=environment) as daemon:
        daemon.register(make_archive(folder), initial_workers=1)
        yield Clients(daemon, key_file)


def refusal(got: tuple[int, bytes]) -> Any:
    assert got[0] == 400
    return json.loads(got[1])


def test_the_file_is_its_owners_alone(clients: Clients) -> None:
    assert stat.S_IMODE(clients.key_file.stat().st_mode) == 0o600


def test_predictions_need_their_token(clients: Clients) -> None:
    expected = {"code": 400, "type": "InvalidKeyException", "message": REFUSED}
    for key in ("", "wrong", clients.key("management"), clients.key("API")):
        got = clients.ask("http", "POST", "/predictions/echo", key, b"x")
        assert refusal(got) == expected
    got = clients.ask("http", "POST", "/predictions/echo", clients.key("inference"), b"x")
    assert got == (200, b"x")


def test_a_stranger_is_refused_before_the_body_has_come(clients: Clients) -> None:
    port = clients.daemon.port()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest("POST", "/predictions/echo")
        connection.putheader("Content-Length", "6000000")
        connection.endheaders()
        assert connection.getresponse().status == 400
    finally:
        connection.close()


def test_management_needs_its_token_and_cannot_bring_models(clients: Clients) -> None:
    management, inference = clients.key("management"), clients.key("inference")
    assert clients.ask("management", "GET", "/models", inference)[0] == 400
    assert clients.ask("management", "GET", "/models", management)[0] == 200
    for asked in (("POST", "/models?url=x.mar"), ("DELETE", "/models/echo")):
        assert clients.ask("management", *asked, inference)[0] == 400
        assert clients.ask("management", *asked, management)[0] == 405
    assert clients.ask("management", "PUT", "/models/echo?min_worker=1", management)[0] == 202


def test_metrics_and_documents_are_open(clients: Clients) -> None:
    assert clients.ask("metrics", "GET", "/metrics")[0] == 200
    for door in ("http", "management"):
        assert clients.ask(door, "OPTIONS", "/")[0] == 200
        assert clients.ask(door, "GET", "/api-description")[0] == 200


def test_this_machines_sockets_need_none(clients: Clients) -> None:
    daemon = clients.daemon
    assert daemon.call("POST", "/predictions/echo", b"x").body == b"x"
    local = daemon.runtime_dir / "http.sock"
    assert daemon.call("POST", "/predictions/echo", b"x", door=local).body == b"x"
    assert daemon.call("GET", "/models").status == 200


def test_a_renewed_token_replaces_the_old_one_at_once(clients: Clients) -> None:
    old = clients.key("inference")
    path = "/token?type=inference"
    assert refusal(clients.ask("management", "GET", path, clients.key("management")))[
        "message"
    ] == (REFUSED.replace("Authorization", "Authentication"))
    assert clients.ask("management", "GET", path, clients.key("API")) == (200, b"\n")
    assert clients.ask("http", "GET", "/ping", old)[0] == 400
    assert clients.ask("http", "GET", "/ping", clients.key("inference"))[0] == 200


def test_tokens_are_told_in_the_log_by_their_place_only(clients: Clients) -> None:
    assert str(clients.key_file) in clients.daemon.log
    assert not any(clients.key(kind) in clients.daemon.log for kind in ("inference", "API"))


def test_without_a_place_for_the_tokens_the_daemon_does_not_start(tmp_path: Path) -> None:
    environment = {
        "TSD_ACCESS_TOKENS": "true",
        "TSD_ACCESS_KEY_FILE": str(tmp_path / "missing" / "key_file.json"),
    }
    with launched(tmp_path, environment=environment) as daemon:
        assert daemon.process.wait(60) != 0
        assert "access.key_file" in daemon.log


def test_the_file_stays_when_the_daemon_ends_and_is_replaced_at_the_next_start(
    tmp_path: Path,
) -> None:
    key_file = tmp_path / "key_file.json"
    environment = {"TSD_ACCESS_TOKENS": "true", "TSD_ACCESS_KEY_FILE": str(key_file)}
    with running(tmp_path, environment=environment) as daemon:
        before = key_file.read_text()
        assert daemon.stop() == 0
    assert key_file.read_text() == before
    with running(tmp_path, environment=environment):
        assert key_file.read_text() != before
