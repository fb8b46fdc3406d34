"""A server under test: its model store, its configuration, its process and its keys."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import signal
import socket
import subprocess
import tarfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tests.torchserve.wire import Address
from tsd.settings import TlsSettings
from tsd.tls import read_identity

HANDLERS = Path(__file__).parent / "handlers"
DOORS = ("inference", "management", "metrics", "grpc_inference", "grpc_management")
START_S = 60.0
STOP_S = 5.0
LATE_DOOR_S = 3.0


@dataclass
class Server:
    """Where it listens, and the keys it wrote."""

    addresses: dict[str, Address]
    key_file: Path
    first_keys: dict[str, str] = field(default_factory=dict)

    def keys(self) -> dict[str, str]:
        """The access keys in force by name, and the first ones seen as `name:first`."""
        with contextlib.suppress(OSError, ValueError):
            written = json.loads(self.key_file.read_text())
            now = {name: entry["key"] for name, entry in written.items()}
            self.first_keys = self.first_keys or {f"{name}:first": now[name] for name in now}
            return now | self.first_keys
        return self.first_keys


@contextlib.contextmanager
def running(section: Mapping[str, Any], launch: str, folder: Path) -> Iterator[Server]:
    """A server with the section's configuration and a full model store, until the end."""
    ports = ports_for(section)
    prepare(section, ports, folder)
    log_path = folder / "server.log"
    with log_path.open("wb") as log:
        process = start(section, launch, folder, log)
    try:
        addresses = {
            door: Address("127.0.0.1", port, is_tls=door in DOORS[:3] and "tls" in section)
            for door, port in ports.items()
        }
        wait_until_open(addresses, process)
        assert process.poll() is None, log_path.read_text(errors="replace")[-3000:]
        yield Server(addresses, folder / "key_file.json")
    finally:
        stop(process)


def prepare(section: Mapping[str, Any], ports: Mapping[str, int], folder: Path) -> None:
    """Model store, configuration and what else the section's server needs to find."""
    build_store(folder / "store")
    (folder / "tmp").mkdir()
    (folder / "config.properties").write_text(configuration(section, ports, folder))
    for name, text in section.get("files", {}).items():
        (folder / name).write_text(text)
    if "tls" in section:
        make_certificate(folder)


def start(
    section: Mapping[str, Any], launch: str, folder: Path, log: BinaryIO
) -> subprocess.Popen[bytes]:
    command = launch.format(store=folder / "store", config=folder / "config.properties", dir=folder)
    temporary = {"TMPDIR": f"{folder}/tmp", "TEMP": f"{folder}/tmp"}
    return subprocess.Popen(
        shlex.split(command),
        cwd=folder,
        env={**os.environ, **temporary, **section.get("environment", {})},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def ports_for(section: Mapping[str, Any]) -> dict[str, int]:
    ports = dict(zip(DOORS, free_ports(len(DOORS)), strict=True))
    if section.get("shared_port"):
        ports["management"] = ports["inference"]
    return ports


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def configuration(section: Mapping[str, Any], ports: Mapping[str, int], folder: Path) -> str:
    scheme = "https" if "tls" in section else "http"
    settings = {f"{door}_address": f"{scheme}://127.0.0.1:{ports[door]}" for door in DOORS[:3]}
    settings |= {f"{door}_port": str(ports[door]) for door in DOORS[3:]}
    if "tls" in section:
        settings |= {
            "private_key_file": f"{folder}/key.pem",
            "certificate_file": f"{folder}/cert.pem",
        }
    settings |= section["config"]
    return "".join(f"{name}={value}\n" for name, value in settings.items()).replace(
        "{dir}", str(folder)
    )


def make_certificate(folder: Path) -> None:
    """A self-signed certificate with its key, as files of an operator's."""
    identity = read_identity(TlsSettings())
    (folder / "key.pem").write_bytes(identity.key)
    (folder / "cert.pem").write_bytes(identity.certificate)


def wait_until_open(addresses: Mapping[str, Address], process: subprocess.Popen[bytes]) -> None:
    """Until every port accepts; the others get a little longer once the first one does."""
    deadline = time.monotonic() + START_S
    for address in addresses.values():
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection((address.host, address.port), 1).close()
                deadline = min(deadline, time.monotonic() + LATE_DOOR_S)
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and all that it started: they are one process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def build_store(store: Path) -> None:
    """Every archive of handlers/archives.json, as a zip, a gzipped tar or a folder."""
    store.mkdir()
    for name, archive in json.loads((HANDLERS / "archives.json").read_text()).items():
        files = archive_files(archive)
        if name.endswith((".tar.gz", ".tgz")):
            write_tar(store / name, files)
        elif name.endswith((".mar", ".model")):
            write_zip(store / name, files, archive.get("folders", []))
        else:
            write_folder(store / name, files)


def archive_files(archive: Mapping[str, Any]) -> dict[str, bytes]:
    """Path inside the archive -> content; `manifest` replaces the usual one, null leaves it out."""
    files = {name: (HANDLERS / name).read_bytes() for name in archive.get("files", [])}
    files |= {name: text.encode() for name, text in archive.get("texts", {}).items()}
    told = (
        {"modelName": archive["model"], "handler": archive["handler"]} if "model" in archive else {}
    )
    told |= {"modelVersion": archive["version"]} if "version" in archive else {}
    if "yaml" in archive:
        files["settings.yaml"] = archive["yaml"].encode()
        told["configFile"] = "settings.yaml"
    usual = {
        "createdOn": "22/11/2026 03:49:12",
        "runtime": "python",
        "model": told,
        "archiverVersion": "0.12.0",
    }
    manifest = archive.get("manifest", usual)
    if manifest is None:
        return files
    return {**files, "MAR-INF/MANIFEST.json": json.dumps(manifest, indent=2).encode()}


def write_zip(path: Path, files: Mapping[str, bytes], folders: list[str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for folder in folders:
            archive.mkdir(folder)
        for name, content in files.items():
            archive.writestr(name, content)


def write_tar(path: Path, files: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"{path.name.partition('.')[0]}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
