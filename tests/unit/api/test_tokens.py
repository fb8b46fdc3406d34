"""Tokens: their file, what is accepted as one, how long, and how they are renewed."""

from __future__ import annotations

import asyncio
import json
import re
import stat
from pathlib import Path

import pytest

from tests.unit.http.wire import Client
from tsd.api.routes import Router, Routes
from tsd.api.tokens import NOT_AUTHENTICATED, NOT_AUTHORIZED, Kind, Tokens, make_tokens
from tsd.errors import StartupError, TokenRefused
from tsd.settings import AccessSettings


class Office:
    """Tokens in a folder, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.now = 100.0
        self.path = folder / "key_file.json"
        self.tokens = Tokens(self.path, 60.0, lambda: self.now)
        self.tokens.publish()

    def key(self, kind: Kind) -> str:
        return str(json.loads(self.path.read_text())[kind]["key"])

    def lets_in(self, kind: Kind, authorization: str | None) -> bool:
        try:
            self.tokens.check(kind, authorization)
        except TokenRefused:
            return False
        return True

    def renew(self, target: str, authorization: str) -> bytes:
        return asyncio.run(self._renew(target, authorization))

    async def _renew(self, target: str, authorization: str) -> bytes:
        check = self.tokens.check_of("API")
        door = [Routes({}, {("*", "/token"): self.tokens.renew}, check)]
        client = Client(Router({"http": door}).handle)
        head = f"GET {target} HTTP/1.1\r\nHost: h\r\nAuthorization: {authorization}\r\n\r\n"
        client.send(head.encode())
        while not client.got:
            await asyncio.sleep(0)
            client.turn()
        return client.got


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_the_file_is_torchserves_and_only_its_owners(office: Office) -> None:
    told = json.loads(office.path.read_text())
    assert list(told) == ["management", "inference", "API"]
    assert list(told["management"]) == list(told["inference"]) == ["key", "expiration time"]
    assert list(told["API"]) == ["key"]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{8}", entry["key"]) for entry in told.values())
    stamp = told["inference"]["expiration time"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", stamp)
    assert stat.S_IMODE(office.path.stat().st_mode) == 0o600
    assert [path.name for path in office.path.parent.iterdir()] == ["key_file.json"]


def test_a_file_of_an_earlier_run_is_replaced(office: Office, tmp_path: Path) -> None:
    before = office.path.read_text()
    office.path.chmod(0o666)
    again = Office(tmp_path)
    assert again.path.read_text() != before
    assert stat.S_IMODE(again.path.stat().st_mode) == 0o600


def test_a_token_is_good_for_its_own_kind_only(office: Office) -> None:
    kinds: tuple[Kind, ...] = ("inference", "management", "API")
    for kind in kinds:
        for other in kinds:
            assert office.lets_in(kind, f"Bearer {office.key(other)}") == (kind == other)


def test_the_header_is_read_as_torchserve_reads_it(office: Office) -> None:
    key = office.key("inference")
    for good in (f"Bearer {key}", f"Bearer   {key}", f"Bearer\t{key}"):
        assert office.lets_in("inference", good), good
    for bad in (key, f"bearer {key}", f"Bearer {key} x", f"Bearer{key}", "Bearer ", "", None):
        assert not office.lets_in("inference", bad), bad
    assert not office.lets_in("inference", f"Bearer {key[:-1]}")
    assert not office.lets_in("inference", f"Bearer {key}\xe9")


def test_a_token_expires_and_the_one_that_renews_does_not(office: Office) -> None:
    inference, renewing = office.key("inference"), office.key("API")
    office.now += 59.0
    assert office.lets_in("inference", f"Bearer {inference}")
    office.now += 1.0
    assert not office.lets_in("inference", f"Bearer {inference}")
    assert office.lets_in("API", f"Bearer {renewing}")


def test_renewing_replaces_one_token_at_once(office: Office) -> None:
    before = json.loads(office.path.read_text())
    got = office.renew("/token?type=inference", f"Bearer {office.key('API')}")
    assert got.startswith(b"HTTP/1.1 200 OK")
    assert b"content-type: application/json" in got
    assert got.endswith(b"\r\n\r\n\n")
    assert not office.lets_in("inference", f"Bearer {before['inference']['key']}")
    assert office.lets_in("inference", f"Bearer {office.key('inference')}")
    after = json.loads(office.path.read_text())
    assert after["management"] == before["management"]
    assert after["API"] == before["API"]


def test_renewing_needs_the_token_for_it_and_a_kind(office: Office) -> None:
    renewing = office.key("API")
    for target, key in (
        ("/token?type=inference", office.key("inference")),
        ("/token?type=management", office.key("management")),
        ("/token", renewing),
        ("/token?type=API", renewing),
        ("/token?type=Inference", renewing),
    ):
        got = office.renew(target, f"Bearer {key}")
        assert got.startswith(b"HTTP/1.1 400 Bad Request"), target
        assert b"InvalidKeyException" in got
        assert NOT_AUTHENTICATED.encode() in got


def test_a_renewal_that_cannot_be_saved_is_none(office: Office) -> None:
    key, renewing = office.key("management"), office.key("API")
    office.path.unlink()
    office.path.mkdir()
    got = office.renew("/token?type=management", f"Bearer {renewing}")
    assert got.startswith(b"HTTP/1.1 507")
    assert office.lets_in("management", f"Bearer {key}")
    assert [path.name for path in office.path.parent.iterdir()] == ["key_file.json"]


def test_refusals_have_torchserves_words(office: Office) -> None:
    with pytest.raises(TokenRefused) as refused:
        office.tokens.check("management", None)
    assert str(refused.value) == NOT_AUTHORIZED
    assert refused.value.torchserve_status == 400
    assert refused.value.torchserve_type == "InvalidKeyException"
    assert refused.value.grpc_status == "PERMISSION_DENIED"


def test_a_place_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "missing" / "key_file.json", 60.0)
    with pytest.raises(StartupError) as caught:
        tokens.publish()
    assert "access.key_file" in caught.value.fix


def test_tokens_are_made_only_where_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make_tokens(AccessSettings()) is None
    monkeypatch.chdir(tmp_path)
    made = make_tokens(AccessSettings(tokens=True))
    assert made is not None
    made.publish()
    assert (tmp_path / "key_file.json").is_file()
