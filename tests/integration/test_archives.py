"""Archives of every kind, old and new, from the store and from URLs, with what they require."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import shutil
import tarfile
import textwrap
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archives import ECHO, make_archive
from tests.support.daemon import RunningDaemon, running, wait_for
from tsd.settings import TlsSettings
from tsd.tls import read_identity, server_context

ECHO_SOURCE = textwrap.dedent(ECHO).encode()


def status_of(daemon: RunningDaemon, url: object, **options: object) -> tuple[int, str, str]:
    """The status of a registration, and its error's type and message."""
    query = "".join(f"&{key}={value}" for key, value in options.items())
    answer = daemon.call("POST", f"/models?url={url}{query}")
    members = answer.json()
    return answer.status, members.get("type", ""), members.get("message", members.get("status"))


def make_zip(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as written:
        for name, content in entries.items():
            written.writestr(name, content)
    return path


def predicts(daemon: RunningDaemon, model: str) -> bool:
    return daemon.call("POST", f"/predictions/{model}", b"hello").body == b"hello"


def test_an_old_archive_with_entries_for_folders_is_served(
    shared_daemon: RunningDaemon, tmp_path: Path
) -> None:
    manifest = {
        "specificationVersion": "1.0",
        "implementationVersion": "1.0",
        "modelServerVersion": "1.0",
        "runtime": "python",
        "engine": {"engineName": "PyTorch"},
        "model": {"modelName": "old", "handler": "h.py", "extensions": {}},
    }
    entries = {
        "MAR-INF/": b"",
        "MAR-INF/MANIFEST.json": json.dumps(manifest).encode(),
        "h.py": ECHO_SOURCE,
        "assets/": b"",
    }
    shared_daemon.register(make_zip(tmp_path / "old.mar", entries), initial_workers=1)
    assert predicts(shared_daemon, "old")
    assert shared_daemon.call("GET", "/models/old").json()[0]["modelVersion"] == "1.0"
    shared_daemon.call("DELETE", "/models/old")


def test_a_name_that_is_nowhere_is_asked_for(shared_daemon: RunningDaemon, tmp_path: Path) -> None:
    nameless = json.dumps({"model": {"handler": "h.py"}}).encode()
    entries = {"MAR-INF/MANIFEST.json": nameless, "h.py": ECHO_SOURCE}
    archive = make_zip(tmp_path / "nameless.mar", entries)
    assert status_of(shared_daemon, archive) == (
        400,
        "InvalidModelException",
        "Model name is not defined.",
    )
    shared_daemon.register(archive, model_name="named", initial_workers=1)
    assert predicts(shared_daemon, "named")
    shared_daemon.call("DELETE", "/models/named")


def test_without_a_manifest_the_default_handler_serves(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    with tarfile.open(store / "sage-maker.tar.gz", "w:gz") as tar:
        entry = tarfile.TarInfo("./code.py")
        entry.size = len(ECHO_SOURCE)
        tar.addfile(entry, io.BytesIO(ECHO_SOURCE))
    environment = {"TSD_SERVING_DEFAULT_HANDLER": "code.py"}
    with running(tmp_path, "--model-store", str(store), environment=environment) as daemon:
        nameless = daemon.call("POST", "/models?url=sage-maker.tar.gz")
        assert (nameless.status, nameless.json()["message"]) == (400, "Model name is not defined.")
        daemon.register(Path("sage-maker.tar.gz"), model_name="named", initial_workers=1)
        assert predicts(daemon, "named")
    with running(
        tmp_path, "--model-store", str(store), "--models", "all", environment=environment
    ) as daemon:
        assert predicts(daemon, "sage_maker")
    assert {path.name for path in store.iterdir()} == {"sage-maker.tar.gz"}


def test_all_of_the_store_is_served_from_the_start(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    shutil.copy(make_archive(tmp_path, "zipped"), store / "zipped.mar")
    nameless = json.dumps({"model": {"handler": "h.py"}}).encode()
    make_zip(store / "no-name.mar", {"MAR-INF/MANIFEST.json": nameless, "h.py": ECHO_SOURCE})
    with zipfile.ZipFile(make_archive(tmp_path, "folder")) as opened:
        opened.extractall(store / "folder" / "inside")
    (store / ".hidden").mkdir()
    (store / "broken.tar.gz").write_bytes(b"\x1f\x8b, but no more")
    with running(tmp_path, "--model-store", str(store), "--models", "all") as daemon:
        names = [model["modelName"] for model in daemon.call("GET", "/models").json()["models"]]
        assert names == ["folder", "no_name", "zipped"]
        assert all(predicts(daemon, name) for name in names)
        assert "broken.tar.gz not loaded: The archive is damaged." in daemon.log


class Files(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, and a few answers that go wrong."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        name = self.path.rpartition("/")[2]
        if name == "moved.mar":
            return self._answer(302, location=f"{self.server.base}/echo.mar")  # type: ignore[attr-defined]
        if name == "away.mar":
            return self._answer(302, location="http://127.0.0.2:1/echo.mar")
        if name == "out.mar":
            return self._answer(302, location="file:///etc/passwd")
        if name == "short.mar":
            return self._answer(200, content_length="100")
        if name == "slow.mar":
            self._answer(200)
            # Until the client gives up.
            self.rfile.read()
            return None
        return super().do_GET()

    def _answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: the test's output is no access log."""


class FileServer(http.server.ThreadingHTTPServer):
    def __init__(self, folder: Path) -> None:
        super().__init__(
            ("127.0.0.1", 0), lambda *arguments: Files(*arguments, directory=str(folder))
        )
        self.base = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []


@pytest.fixture
def web(tmp_path: Path) -> Iterator[FileServer]:
    """A web server on loopback that has `echo.mar` and `broken.mar`."""
    folder = tmp_path / "web"
    folder.mkdir()
    shutil.copy(make_archive(tmp_path), folder / "echo.mar")
    (folder / "broken.mar").write_bytes(b"no archive")
    with FileServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def daemon_with(
    tmp_path: Path, *rules: str, **environment: str
) -> Iterator[tuple[RunningDaemon, Path]]:
    """A daemon, and its empty model store, that takes archives from such URLs."""
    store = tmp_path / "store"
    store.mkdir(exist_ok=True)
    config = tmp_path / "tsd.toml"
    config.write_text(f"[archives]\nallowed_urls = {json.dumps(rules)}\n")
    options = ("--config", str(config), "--model-store", str(store))
    with running(tmp_path, *options, environment=environment) as daemon:
        yield daemon, store


def test_an_archive_from_a_url_comes_and_goes_with_its_model(
    tmp_path: Path, web: FileServer
) -> None:
    url = f"{web.base}/echo.mar"
    with daemon_with(tmp_path, rf"{web.base}/.*\.mar") as (daemon, store):
        assert status_of(daemon, url, initial_workers=1)[0] == 200
        assert predicts(daemon, "echo")
        assert daemon.call("GET", "/models/echo").json()[0]["modelUrl"] == url
        assert status_of(daemon, url, model_name="again") == (
            500,
            "InternalServerException",
            "Model file already exists echo.mar",
        )
        assert web.asked == ["/echo.mar"]
    # Where it came from is known after a restart, too.
    with daemon_with(tmp_path, rf"{web.base}/.*\.mar") as (daemon, store):
        assert predicts(daemon, "echo")
        assert daemon.call("DELETE", "/models/echo").status == 200
        assert not list(store.iterdir())
        assert web.asked == ["/echo.mar"]


def test_nothing_is_left_of_a_download_that_fails(tmp_path: Path, web: FileServer) -> None:
    with daemon_with(tmp_path, rf"{web.base}/.*") as (daemon, store):
        for name in ("gone.mar", "short.mar", "away.mar", "out.mar"):
            status, kind, words = status_of(daemon, f"{web.base}/{name}")
            if name in ("away.mar", "out.mar"):
                assert kind in ("ModelNotFoundException", "DownloadArchiveException")
            else:
                assert (status, kind) == (400, "DownloadArchiveException")
                assert words == f"Failed to download archive from: {web.base}/{name}"
            assert not list(store.iterdir())
        assert status_of(daemon, f"{web.base}/broken.mar")[:2] == (400, "InvalidModelException")
        assert not list(store.iterdir())
        # A redirect within the rules is followed, and the file has the name that was asked for.
        assert status_of(daemon, f"{web.base}/moved.mar")[0] == 200
        assert [path.name for path in store.iterdir()] == ["moved.mar"]


def test_a_download_that_takes_too_long_is_ended(tmp_path: Path, web: FileServer) -> None:
    limit = {"TSD_ARCHIVES_DOWNLOAD_TIMEOUT_S": "1"}
    with daemon_with(tmp_path, rf"{web.base}/.*", **limit) as (daemon, store):
        answer = daemon.call("POST", f"/models?url={web.base}/slow.mar")
        assert (answer.status, answer.json()["type"]) == (400, "DownloadArchiveException")
        assert answer.json()["why"] == "it took longer than 1 s"
        wait_for(lambda: not list(store.iterdir()))


def test_a_secure_server_is_asked_for_its_certificate(tmp_path: Path, web: FileServer) -> None:
    pytest.importorskip("cryptography")
    identity = read_identity(TlsSettings())
    known = tmp_path / "known.pem"
    known.write_bytes(identity.certificate)
    web.socket = server_context(identity).wrap_socket(web.socket, server_side=True)
    url = f"https://localhost:{web.server_port}/echo.mar"
    with daemon_with(tmp_path, "https://localhost:.*") as (daemon, store):
        assert status_of(daemon, url)[:2] == (400, "DownloadArchiveException")
        assert not list(store.iterdir())
        assert web.asked == []
    with daemon_with(tmp_path, "https://localhost:.*", SSL_CERT_FILE=str(known)) as (daemon, _):
        assert status_of(daemon, url)[0] == 200
        assert web.asked == ["/echo.mar"]


def test_f24_a_rule_for_all_hosts_opens_no_way_to_this_machine(
    tmp_path: Path, web: FileServer
) -> None:
    with daemon_with(tmp_path, "http(s)?://.*") as (daemon, store):
        for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
            url = f"http://{host}:{web.server_port}/echo.mar"
            assert status_of(daemon, url) == (
                400,
                "DownloadArchiveException",
                f"Failed to download archive from: {url}",
            )
        assert status_of(daemon, "file:///etc/passwd")[:2] == (404, "ModelNotFoundException")
        assert web.asked == []
        assert not list(store.iterdir())


def test_a_model_of_the_start_may_come_from_a_url(tmp_path: Path) -> None:
    archive = make_archive(tmp_path)
    with daemon_with(tmp_path, "file://.*") as (daemon, store):
        pass
    config = tmp_path / "tsd.toml"
    config.write_text(f'models = "mine=file://{archive}"\n{config.read_text()}')
    for _ in range(2):
        with running(tmp_path, "--config", str(config), "--model-store", str(store)) as daemon:
            assert predicts(daemon, "mine")


def make_wheel(folder: Path, word: str) -> Path:
    """A package `tinypack` whose WORD is `word`; it needs torch, which the runtime has."""
    info = "tinypack-1.0.dist-info"
    metadata = "Metadata-Version: 2.1\nName: tinypack\nVersion: 1.0\nRequires-Dist: torch\n"
    wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(f"{info}/{name},,\n" for name in ("METADATA", "WHEEL", "RECORD"))
    return make_zip(
        folder / "tinypack-1.0-py3-none-any.whl",
        {
            "tinypack.py": f"WORD = {word!r}\n".encode(),
            f"{info}/METADATA": metadata.encode(),
            f"{info}/WHEEL": wheel.encode(),
            f"{info}/RECORD": f"tinypack.py,,\n{record}".encode(),
        },
    )


INSTALLING = {"TSD_ARCHIVES_INSTALL_REQUIREMENTS": "true"}

REQUIRING = b"""
import tinypack

def handle(data, context):
    return None if data is None else [f"{tinypack.WORD} {tinypack.__file__}"] * len(data)
"""


def make_requiring(path: Path, requirements: str, config: str = "{}") -> Path:
    model = {
        "modelName": path.stem,
        "handler": "h.py",
        "requirementsFile": "requirements.txt",
        "configFile": "config.yaml",
    }
    entries = {
        "MAR-INF/MANIFEST.json": json.dumps({"runtime": "python", "model": model}).encode(),
        "h.py": REQUIRING,
        "requirements.txt": requirements.encode(),
        "config.yaml": config.encode(),
    }
    return make_zip(path, entries)


def test_requirements_are_installed_once_for_all_models_that_ask_for_them(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "installed")
    archives = [make_requiring(tmp_path / f"{name}.mar", f"{wheel}\n") for name in ("a", "b")]
    environments = tmp_path / "state" / "environments"
    with running(tmp_path, environment=INSTALLING) as daemon:
        for archive in archives:
            daemon.register(archive, initial_workers=1)
        (place,) = environments.iterdir()
        # torch, which the runtime has, does not come again.
        assert {path.name.partition("-")[0] for path in place.iterdir()} <= {
            *("tinypack", "tinypack.py", "__pycache__")
        }
        answers = [daemon.call("POST", f"/predictions/{name}", b"x").body for name in ("a", "b")]
        assert answers == [f"installed {place}/tinypack.py".encode()] * 2
        daemon.call("DELETE", "/models/a")
    with running(tmp_path, environment=INSTALLING) as daemon:
        assert daemon.call("POST", "/predictions/b", b"x").body.startswith(b"installed")
        assert list(environments.iterdir()) == [place]
        daemon.call("DELETE", "/models/b")
    with running(tmp_path, environment=INSTALLING):
        assert not list(environments.iterdir())


def test_requirements_are_left_alone_unless_that_is_asked_for(
    shared_daemon: RunningDaemon, tmp_path: Path
) -> None:
    archive = make_requiring(tmp_path / "left.mar", "tsd-test-no-such-package\n")
    assert status_of(shared_daemon, archive)[0] == 200
    assert "model left: its requirements.txt is left alone" in shared_daemon.log
    shared_daemon.call("DELETE", "/models/left")


@pytest.mark.parametrize("config", ["{}", "useVenv: true"])
def test_requirements_that_cannot_be_installed_are_told(tmp_path: Path, config: str) -> None:
    archive = make_requiring(tmp_path / "bad.mar", "./nothing-1.0-py3-none-any.whl\n", config)
    with running(tmp_path, environment=INSTALLING) as daemon:
        answer = daemon.call("POST", f"/models?url={archive}")
        assert (answer.status, answer.json()["type"]) == (400, "ModelException")
        assert answer.json()["message"] == "Custom pip package installation failed for model bad"
        assert "nothing-1.0" in answer.json()["why"]
        assert daemon.call("GET", "/models/bad").status == 404
        assert not list((tmp_path / "state" / "environments").iterdir())
        assert not list((tmp_path / "state" / "models").iterdir())


def test_an_installation_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    # Asked what it is, the package sleeps.
    package = tmp_path / "slow"
    package.mkdir()
    (package / "setup.py").write_text("import time\ntime.sleep(600)\n")
    archive = make_requiring(tmp_path / "slow.mar", f"{package}\n")
    environment = INSTALLING | {"TSD_ARCHIVES_INSTALL_TIMEOUT_S": "3"}
    with running(tmp_path, environment=environment) as daemon:
        assert status_of(daemon, archive)[:2] == (400, "ModelException")
        assert not list((tmp_path / "state" / "environments").iterdir())
