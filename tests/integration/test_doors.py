"""Doors as they are configured: Unix sockets, one for everything, TLS, other origins, documents."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import Answer, RunningDaemon, launched, running, wait_for
from tsd.settings import TlsSettings
from tsd.tls import Identity, read_identity

LARGE = os.urandom(3_000_000)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A socket's path has room for 107 bytes, and pytest's folders are long."""
    with tempfile.TemporaryDirectory(prefix="tsd-doors-") as folder:
        yield Path(folder)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> Answer:
    connection.request(method, path, body)
    response = connection.getresponse()
    names = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, names, response.read())


def by_tcp(daemon: RunningDaemon, method: str, path: str, door: str = "http") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port(door), timeout=30)
    try:
        return ask(connection, method, path)
    finally:
        connection.close()


def test_doors_may_be_unix_sockets_and_go_with_the_daemon(
    tmp_path: Path, short_folder: Path
) -> None:
    http_path, management_path = short_folder / "i.sock", short_folder / "m.sock"
    with running(
        tmp_path, "--http", str(http_path), "--management", str(management_path)
    ) as daemon:
        assert stat.S_IMODE(http_path.stat().st_mode) == 0o666
        assert stat.S_IMODE(management_path.stat().st_mode) == 0o660
        assert daemon.call("GET", "/ping", door=http_path).status == 200
        assert daemon.call("GET", "/models", door=management_path).json() == {"models": []}
        assert daemon.call("GET", "/models", door=http_path).status == 404
        assert daemon.stop() == 0
    assert list(short_folder.iterdir()) == []


def test_a_unix_socket_for_everything_is_for_operators(tmp_path: Path, short_folder: Path) -> None:
    path = short_folder / "all.sock"
    with running(tmp_path, "--http", str(path), "--management", str(path)) as daemon:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert daemon.call("GET", "/models", door=path).status == 200


def test_equal_addresses_are_one_door_for_everything(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    options = ("--http", address, "--management", address, "--metrics", address)
    with running(tmp_path, *options) as daemon:
        daemon.register(make_archive(tmp_path), initial_workers=1)
        for method, path, status in (
            ("POST", "/predictions/echo", 200),
            ("POST", "/models/echo/invoke", 200),
            ("GET", "/models", 200),
            ("GET", "/models/echo/1.0", 200),
            ("GET", "/metrics", 200),
            ("POST", "/models/echo", 405),
            ("GET", "/nothing", 404),
        ):
            assert by_tcp(daemon, method, path).status == status, path
        names = [door["name"] for door in daemon.call("GET", "/tsd/status").json()["doors"]]
        assert sorted(names) == ["control", "http", "http"]


def test_other_origins_are_told_what_is_configured(tmp_path: Path) -> None:
    environment = {"TSD_CORS_ORIGIN": "*", "TSD_CORS_METHODS": "GET, POST, OPTIONS"}
    with running(tmp_path, environment=environment) as daemon:
        for method, path, status in (("GET", "/ping", 200), ("OPTIONS", "/predictions/m", 404)):
            answer = by_tcp(daemon, method, path)
            assert answer.status == status
            assert answer.headers["access-control-allow-origin"] == "*"
            assert answer.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
            assert "access-control-allow-headers" not in answer.headers
        assert "access-control-allow-origin" not in daemon.call("GET", "/ping").headers


def test_documents_tell_of_doors_and_of_models(shared_daemon: RunningDaemon) -> None:
    whole = shared_daemon.call("GET", "/api-description").json()
    assert {"/predictions/{model_name}", "/models", "/metrics"} <= set(whole["paths"])
    of_door = by_tcp(shared_daemon, "OPTIONS", "/").json()
    assert of_door["info"]["title"] == "TorchServe APIs"
    assert "/models" not in of_door["paths"]
    model = by_tcp(shared_daemon, "OPTIONS", "/predictions/echo").json()
    assert model["info"] == {"title": "RESTful API for: echo", "version": "1.0.0"}
    managed = by_tcp(shared_daemon, "OPTIONS", "/models/echo/1.0", "management").json()
    assert managed["info"]["title"] == "RESTful Management API for: echo"
    assert by_tcp(shared_daemon, "OPTIONS", "/models/none", "management").status == 404
    assert by_tcp(shared_daemon, "GET", "/").status == 405


class Encrypted:
    """A daemon whose door speaks TLS, and the files that it shows."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key = folder / "c.pem", folder / "k.pem"
        self.environment = {
            "TSD_TLS_CERTIFICATE": str(self.certificate),
            "TSD_TLS_PRIVATE_KEY": str(self.key),
        }
        self.identity = self.write(read_identity(TlsSettings()))

    def write(self, identity: Identity) -> Identity:
        self.certificate.write_bytes(identity.certificate)
        self.key.write_bytes(identity.key)
        return identity

    @staticmethod
    def connect(daemon: RunningDaemon, identity: Identity) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cadata=identity.certificate.decode())
        return http.client.HTTPSConnection("localhost", daemon.port(), timeout=30, context=context)


def test_a_door_speaks_tls_with_the_certificate_that_is_named(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    files = Encrypted(tmp_path)
    options = ("--http", "https://127.0.0.1:0")
    with running(tmp_path, *options, environment=files.environment) as daemon:
        daemon.register(make_archive(tmp_path), initial_workers=1)
        connection = files.connect(daemon, files.identity)
        for body in (b"x", LARGE, b"", LARGE[:300_000]):
            assert ask(connection, "POST", "/predictions/echo", body).body == body
        renewed = files.write(read_identity(TlsSettings()))
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "code=reloaded" in daemon.log)
        again = files.connect(daemon, renewed)
        assert ask(again, "GET", "/ping").status == 200
        # Who was there before is served on.
        assert ask(connection, "GET", "/ping").status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            files.connect(daemon, files.identity).connect()
        again.close()
        connection.close()


def test_a_renewed_certificate_that_is_damaged_changes_nothing(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    files = Encrypted(tmp_path)
    options = ("--http", "https://127.0.0.1:0")
    with running(tmp_path, *options, environment=files.environment) as daemon:
        files.key.write_text("nothing")
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "code=reload_failed" in daemon.log)
        connection = files.connect(daemon, files.identity)
        assert ask(connection, "GET", "/ping").status == 200
        connection.close()


def test_a_certificate_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    environment = {"TSD_TLS_CERTIFICATE": str(tmp_path / "none.pem")}
    options = ("--http", "https://127.0.0.1:0")
    with launched(tmp_path, *options, environment=environment) as daemon:
        assert daemon.process.wait(60) == 78
        assert "tls.private_key" in daemon.log
