"""Reloads of a real daemon: what they change, what they refuse, and what they cost."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.archives import make_archive
from tests.support.daemon import RunningDaemon, running, wait_for
from tsctl.__main__ import main as tsctl
from tsd.http.listener import bind_tcp
from tsd.settings import TlsSettings
from tsd.tls import read_identity

RELOADS = 200
WORDS = ["RELOADING", "MONOTONIC_USEC", "READY", "STATUS"]


def settings(folder: Path, text: str) -> tuple[str, str]:
    (folder / "tsd.toml").write_text(text)
    return ("--config", str(folder / "tsd.toml"))


def test_a_reload_says_what_is_different_and_what_will_be(tmp_path: Path) -> None:
    with running(tmp_path, *settings(tmp_path, "")) as daemon:
        daemon.register(make_archive(tmp_path), initial_workers=1)
        assert daemon.call("POST", "/tsd/reload").json() == {"changed": [], "needs_restart": []}
        text = '[log]\nlevel = "debug"\nkept_records = 5\n[http]\nmax_request_bytes = 300\n'
        settings(tmp_path, text)
        expected = {
            "changed": ["http.max_request_bytes", "log.level"],
            "needs_restart": ["log.kept_records"],
        }
        assert daemon.call("POST", "/tsd/reload").json() == expected
        for size, status in ((300, 200), (301, 413)):
            assert daemon.call("POST", "/predictions/echo", b"x" * size).status == status
        # What needs a restart is told again; the rest has been done.
        expected["changed"] = []
        assert daemon.call("POST", "/tsd/reload").json() == expected


def test_a_bad_configuration_changes_nothing_and_the_reason_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(tmp_path, *settings(tmp_path, "")) as daemon:
        settings(tmp_path, '[http]\nmax_request_bytes = 1\n[log]\nlevel = "loud"\n')
        refused = daemon.call("POST", "/tsd/reload")
        assert refused.status == 400
        assert "log.level cannot be 'loud'" in refused.json()["message"]
        assert "Choose one of debug" in refused.json()["fix"]
        assert tsctl(["--socket", str(daemon.control), "reload"]) != 0
        assert "log.level cannot be 'loud'" in capsys.readouterr().err
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.log.count("code=reload_failed") == 3)
        daemon.register(make_archive(tmp_path), initial_workers=1)
        assert daemon.call("POST", "/predictions/echo", b"four").body == b"four"


def test_the_operator_is_told_by_tsctl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running(tmp_path, *settings(tmp_path, "")) as daemon:
        settings(tmp_path, 'models = "all"\n[serving]\nqueue_size = 7\n')
        assert tsctl(["--socket", str(daemon.control), "reload"]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "Reloaded: serving.queue_size",
            "These need a restart: models",
        ]


def test_a_reload_is_for_operators_only(shared_daemon: RunningDaemon) -> None:
    door = shared_daemon.runtime_dir / "http.sock"
    assert shared_daemon.call("POST", "/tsd/reload", door=door).status == 404


def test_f33_reloads_leave_nothing_behind(tmp_path: Path) -> None:
    files = Files(tmp_path)
    with running(tmp_path, *files.doors("https://127.0.0.1:0"), environment=files.names) as daemon:
        daemon.register(make_archive(tmp_path), initial_workers=1)
        open_before = descriptors(daemon)
        for number in range(RELOADS):
            text = "[http\n" if number % 3 == 0 else f"[serving]\nqueue_size = {number + 1}\n"
            settings(tmp_path, text)
            daemon.told.clear()
            assert daemon.call("POST", "/tsd/reload").status == (400 if number % 3 == 0 else 200)
            daemon.wait_until_told("READY=1")
            # Whether it was good or bad, it has begun and has ended.
            assert [word.partition("=")[0] for word in daemon.told] == WORDS
            assert daemon.call("POST", "/predictions/echo", b"x").body == b"x"
        wait_for(lambda: daemon.call("GET", "/ping").status == 200 and same(daemon, open_before))


def descriptors(daemon: RunningDaemon) -> int:
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))  # noqa: PTH208 (a folder of the kernel's)


def same(daemon: RunningDaemon, expected: int) -> bool:
    return descriptors(daemon) == expected


class Files:
    """A daemon's certificate, its key, and its settings."""

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("cryptography")
        self._folder = folder
        self._certificate, self._key = folder / "c.pem", folder / "k.pem"
        self.names = {
            "TSD_TLS_CERTIFICATE": str(self._certificate),
            "TSD_TLS_PRIVATE_KEY": str(self._key),
            "TSD_TLS_GRPC": "true",
        }
        self.renew()

    def renew(self) -> bytes:
        """Another certificate; in the form in which clients see it."""
        identity = read_identity(TlsSettings())
        self._certificate.write_bytes(identity.certificate)
        self._key.write_bytes(identity.key)
        return ssl.PEM_cert_to_DER_cert(identity.certificate.decode())

    def doors(self, http: str) -> Sequence[str]:
        return (*settings(self._folder, ""), "--http", http, "--grpc", "127.0.0.1:0")


def shown(port: int) -> bytes | None:
    """The certificate that a gRPC client sees."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        assert wrapped.selected_alpn_protocol() == "h2"
        return wrapped.getpeercert(binary_form=True)


@pytest.mark.parametrize("is_inherited", [False, True])
def test_grpc_clients_see_a_renewed_certificate(tmp_path: Path, *, is_inherited: bool) -> None:
    files = Files(tmp_path)
    with bind_tcp("127.0.0.1", 0, 16) as bound:
        inherited = [("grpc", bound)] if is_inherited else []
        options = files.doors("none")
        with running(tmp_path, *options, environment=files.names, inherited=inherited) as daemon:
            renewed = files.renew()
            port = daemon.port("grpc")
            assert shown(port) not in (None, renewed)
            assert daemon.call("POST", "/tsd/reload").status == 200
            assert shown(port) == renewed
