"""TorchServe's clients, unchanged: curl, requests, and the keys that its server leaves in a file.

Clients by gRPC are in test_grpc.py; their stubs are made from TorchServe's own fields."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
import requests

from tests.support.archives import make_archive
from tests.support.torchserve import ANY_PORT, TorchServe, torchserve

# Says what came: the names of its inputs, their types and their bytes.
MIRROR = """
    def handle(data, context):
        if data is None: return None
        return [{name: [type(value).__name__, bytes(value).hex() if isinstance(value, bytearray)
                 else value] for name, value in row.items()} for row in data]
"""
IMAGE = b"\x89PNG\r\n\x1a\n\x00binary"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    folder = tmp_path_factory.mktemp("clients")
    with torchserve(folder) as own:
        make_archive(folder, "mirror", MIRROR).rename(own.store / "mirror.mar")
        (folder / "tokens.properties").write_text(ANY_PORT + "enable_model_api=true\n")
        own.start("--ts-config", "tokens.properties", "--ncs", "--models", "mirror=mirror.mar")
        (folder / "image.png").write_bytes(IMAGE)
        yield own


def key(server: TorchServe, kind: str) -> str:
    keys: dict[str, dict[str, str]] = json.loads((server.folder / "key_file.json").read_text())
    return keys[kind]["key"]


def curl(server: TorchServe, path: str, *words: str, door: str = "http") -> object:
    """What curl prints, as JSON; it fails as a script's would, by its exit status."""
    kind = "management" if door == "management" else "inference"
    command = ["curl", "-sS", "--fail", "-H", f"Authorization: Bearer {key(server, kind)}"]
    url = f"http://{server.address(door)}{path}"
    done = subprocess.run(
        [*command, *words, url], cwd=server.folder, capture_output=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


def test_curl_uploads_a_file(server: TorchServe) -> None:
    answer = curl(server, "/predictions/mirror", "-T", "image.png")
    assert answer == {"body": ["bytearray", IMAGE.hex()]}


def test_curl_sends_a_form(server: TorchServe) -> None:
    form = ("-F", "data=@image.png;type=image/png", "-F", "note=hi")
    answer = curl(server, "/predictions/mirror", *form)
    assert answer == {"data": ["bytearray", IMAGE.hex()], "note": ["bytearray", b"hi".hex()]}


def test_curl_posts_json(server: TorchServe) -> None:
    words = ("-H", "Content-Type: application/json", "-d", '{"instances": [1, 2]}')
    answer = curl(server, "/predictions/mirror/1.0", *words)
    assert answer == {"body": ["dict", {"instances": [1, 2]}]}


def test_curl_manages_models(server: TorchServe) -> None:
    words = ("-X", "POST")
    path = "/models?url=mirror.mar&model_name=again&initial_workers=1&synchronous=true"
    told = curl(server, path, *words, door="management")
    assert told == {"status": 'Model "again" Version: 1.0 registered with 1 initial workers'}
    listed = curl(server, "/models", door="management")
    assert isinstance(listed, dict)
    assert [model["modelName"] for model in listed["models"]] == ["again", "mirror"]
    told = curl(server, "/models/again", "-X", "DELETE", door="management")
    assert told == {"status": 'Model "again" unregistered'}


def test_requests_keeps_its_connection_and_sends_all_kinds(server: TorchServe) -> None:
    url = f"http://{server.address('http')}/predictions/mirror"
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {key(server, 'inference')}"
        answers = [
            session.post(url, data=IMAGE, timeout=60),
            session.post(url, json={"a": 1}, timeout=60),
            session.post(url, files={"data": ("image.png", IMAGE, "image/png")}, timeout=60),
            session.post(url, data={"a": "x"}, timeout=60),
            session.post(url, data=(piece for piece in (b"in ", b"pieces")), timeout=60),
        ]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert [answer.json() for answer in answers] == [
        {"body": ["bytearray", IMAGE.hex()]},
        {"body": ["dict", {"a": 1}]},
        {"data": ["bytearray", IMAGE.hex()]},
        {"a": ["bytearray", b"x".hex()]},
        {"body": ["bytearray", b"in pieces".hex()]},
    ]


def test_a_key_is_renewed_by_the_key_that_may(server: TorchServe) -> None:
    def ping(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(
            f"http://{server.address('http')}/ping", headers=headers, timeout=60
        ).status_code

    old = key(server, "inference")
    assert ping(old) == 200
    renewed = requests.get(
        f"http://{server.address('management')}/token?type=inference",
        headers={"Authorization": f"Bearer {key(server, 'API')}"},
        timeout=60,
    )
    assert renewed.status_code == 200
    assert (ping(old), ping(key(server, "inference"))) == (400, 200)
    assert (server.folder / "key_file.json").stat().st_mode & 0o777 == 0o600
