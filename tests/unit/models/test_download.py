"""Which URLs an archive may come from, and which addresses. No test here opens a connection."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tsd.errors import ArchiveExists, DownloadFailed, ModelNotFound
from tsd.models.download import Transfer, discard, discard_partial, fetch, is_url, may_reach
from tsd.models.store import Origin
from tsd.settings import ArchiveSettings

ANYWHERE = (r"file://.*", r"https?://.*")


def limits(*rules: str) -> ArchiveSettings:
    return ArchiveSettings(allowed_urls=rules)


def test_a_url_is_told_from_a_name() -> None:
    assert all(map(is_url, ("http://h/m", "HTTPS://h/m", "file:///m")))
    assert not any(map(is_url, ("m.mar", "ftp://h/m", "file:m", "/http://m")))


@pytest.mark.parametrize(
    ("url", "rules"),
    [
        ("http://h/m.mar", ()),
        ("http://h/m.mar", ("https://h/.*",)),
        ("http://h/m.mar", ("http://h/",)),
        ("http://h/m.mar", ("(",)),
        ("http://user@h/m.mar", ANYWHERE),
        ("http://user:word@h/m.mar", ANYWHERE),
        ("http://h:port/m.mar", ANYWHERE),
        ("http://[::1/m.mar", ANYWHERE),
        ("http://h/", ANYWHERE),
        ("http://h", ANYWHERE),
        ("http://h/.hidden", ANYWHERE),
        ("http://h/a%5Cb", ANYWHERE),
        ("http://h/a%00b", ANYWHERE),
        ("http://h/a b", ANYWHERE),
        ("http://h\\@other/a", ANYWHERE),
        ("http://h/" + "x" * 256, ANYWHERE),
    ],
)
def test_f24_a_url_that_no_rule_allows_or_that_is_odd_is_refused(
    tmp_path: Path, url: str, rules: tuple[str, ...]
) -> None:
    with pytest.raises(ModelNotFound, match="does not match any allowed URL") as caught:
        Transfer(url, tmp_path, limits(*rules))
    assert "word" not in str(caught.value)


def test_a_url_names_a_host(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed):
        Transfer("http:///m.mar", tmp_path, limits(*ANYWHERE))


@pytest.mark.parametrize("url", ["http://h/../m.mar", "http://h/%2e%2e/m.mar", "file:///a/../b"])
def test_f24_a_url_does_not_climb(tmp_path: Path, url: str) -> None:
    with pytest.raises(ModelNotFound, match="Relative path is not allowed in url"):
        Transfer(url, tmp_path, limits(*ANYWHERE))


def test_the_file_is_named_after_the_path_without_its_query(tmp_path: Path) -> None:
    url = "HTTPS://h/models/net%20v2.mar?signature=a/b"
    assert Transfer(url, tmp_path, limits(*ANYWHERE)).target == tmp_path / "net v2.mar"


def test_without_a_store_there_is_nowhere_to_go() -> None:
    with pytest.raises(ModelNotFound, match="Model store has not been configured"):
        Transfer("http://h/m.mar", None, limits(*ANYWHERE))


PUBLIC = ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822")
PRIVATE = (
    *("10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fc00::1", "::ffff:10.0.0.1"),
    *("64:ff9b::a01:203", "fec0::1"),
)
NEAR = (
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "169.254.169.254", "224.0.0.1"),
    *("::1", "::", "fe80::1%eth0", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::"),
    "64:ff9b::a9fe:a9fe",
)


@pytest.mark.parametrize("address", PUBLIC)
def test_f24_public_addresses_are_reached(address: str) -> None:
    assert may_reach(address, "models.example", is_named=False)


@pytest.mark.parametrize("address", PRIVATE + NEAR)
def test_f24_others_are_not_by_a_rule_for_all_hosts(address: str) -> None:
    assert not may_reach(address, "models.example", is_named=False)
    assert not may_reach(address, address, is_named=False)


@pytest.mark.parametrize("address", PRIVATE)
def test_f24_a_rule_that_names_a_host_reaches_into_a_private_network(address: str) -> None:
    assert may_reach(address, "models.example", is_named=True)


@pytest.mark.parametrize("address", NEAR)
def test_f24_a_name_leads_to_this_machine_only_if_it_is_its_own(address: str) -> None:
    assert not may_reach(address, "models.example", is_named=True)
    assert may_reach(address, "localhost", is_named=True)
    assert may_reach(address, "127.0.0.1", is_named=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1"])
def test_f24_this_machine_is_not_connected_to_by_a_rule_for_all_hosts(
    tmp_path: Path, host: str
) -> None:
    transfer = Transfer(f"http://{host}:1/m.mar", tmp_path, limits(*ANYWHERE))
    with pytest.raises(DownloadFailed, match="Failed to download archive from: http") as caught:
        transfer.run()
    assert "no public address" in caught.value.why
    assert not list(tmp_path.iterdir())


def test_a_file_is_copied_into_the_store(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (tmp_path / "m.mar").write_bytes(b"archive")
    url = f"file://{tmp_path}/m.mar"
    origin = asyncio.run(fetch(url, store, limits(*ANYWHERE)))
    assert origin == Origin(store / "m.mar", url)
    assert origin.path.read_bytes() == b"archive"
    with pytest.raises(ArchiveExists, match=r"^Model file already exists m\.mar$"):
        asyncio.run(fetch(url, store, limits(*ANYWHERE)))
    assert asyncio.run(fetch(url, store, limits(*ANYWHERE), may_exist=True)) == origin
    discard(origin)
    assert not list(store.iterdir())


@pytest.mark.parametrize("url", ["file:///nowhere/m.mar", "file://{}", "file://other/{}/m.mar"])
def test_what_is_no_file_here_is_not_copied(tmp_path: Path, url: str) -> None:
    (tmp_path / "m.mar").touch()
    store = tmp_path / "store"
    store.mkdir()
    with pytest.raises(DownloadFailed):
        asyncio.run(fetch(url.format(tmp_path), store, limits(*ANYWHERE)))
    assert not list(store.iterdir())


def test_a_file_may_be_too_large(tmp_path: Path) -> None:
    (tmp_path / "m.mar").write_bytes(b"12345")
    store = tmp_path / "store"
    store.mkdir()
    small = ArchiveSettings(allowed_urls=ANYWHERE, max_download_bytes=4)
    with pytest.raises(DownloadFailed):
        asyncio.run(fetch(f"file://{tmp_path}/m.mar", store, small))
    assert not list(store.iterdir())


def test_only_what_was_downloaded_is_deleted_with_its_model(tmp_path: Path) -> None:
    (tmp_path / "m.mar").touch()
    discard(Origin(tmp_path / "m.mar"))
    assert (tmp_path / "m.mar").exists()


def test_what_a_killed_daemon_had_begun_is_deleted(tmp_path: Path) -> None:
    (tmp_path / ".downloading-x").touch()
    (tmp_path / "m.mar").touch()
    discard_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["m.mar"]
    discard_partial(None)


def test_where_torchserves_rules_hold_only_the_link_is_out_of_reach() -> None:
    for address in ("127.0.0.1", "10.0.0.1", "::1", "fd00::1", "93.184.216.34"):
        assert may_reach(address, "models.example", is_named=False, is_open=True)
    for address in ("169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1"):
        assert not may_reach(address, address, is_named=True, is_open=True)
