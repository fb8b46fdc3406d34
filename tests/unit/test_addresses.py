"""Doors' addresses: what is one, what is not, and who can come to it."""

from pathlib import Path

import pytest

from tsd.addresses import Address, check_door, open_to_others, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("localhost:0", Address("127.0.0.1", 0)),
        ("[::1]:65535", Address("::1", 65_535)),
        ("127.8.9.1:1", Address("127.8.9.1", 1)),
        ("0.0.0.0:80", Address("0.0.0.0", 80)),
        ("https://127.0.0.1:8443", Address("127.0.0.1", 8443, is_tls=True)),
        ("https://[::1]:1", Address("::1", 1, is_tls=True)),
        ("/run/a b.sock", Path("/run/a b.sock")),
        ("none", None),
    ],
)
def test_addresses(text: str, address: Address | Path | None) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("example.org:80", "*:80", ":80", "80", "", "127.0.0.1", "127.0.0.1:65536", "run/x"),
        *("127.0.0.1:٣", "::1:80", "[127.0.0.1:80", "None", "http://127.0.0.1:80", "https://:1"),
        *("/" + "x" * 107, "127.0.0.1:80/", "https://127.0.0.1"),
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"it is neither|not an IP address|has room for"):
        parse_address(text)


@pytest.mark.parametrize("text", ["/run/grpc.sock", "https://127.0.0.1:7070"])
def test_a_grpc_door_is_a_plain_address(text: str) -> None:
    check_door("doors.http", text)
    with pytest.raises(ValueError, match=r"tls\.grpc"):
        check_door("doors.grpc", text)


def test_doors_that_others_can_reach_are_named() -> None:
    doors = {
        "doors.http": "0.0.0.0:1",
        "doors.management": "127.0.0.1:1",
        "doors.metrics": "/run/x",
        "doors.grpc": "none",
        "doors.grpc_management": "[2001:db8::1]:1",
    }
    assert open_to_others(doors) == ["doors.http", "doors.grpc_management"]
