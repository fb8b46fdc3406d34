"""Where doors listen, as settings say it: `[https://]ADDRESS:PORT`, a socket's path, or `none`.

Whether an address may be open to other machines is the configuration's to say (config.py)."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HTTP_DOORS = ("doors.http", "doors.management", "doors.metrics")
GRPC_DOORS = ("doors.grpc", "doors.grpc_management")
"""The settings that are addresses."""

LONGEST_SOCKET_PATH = 107
"""What the kernel's socket address has room for, in bytes."""


@dataclass(frozen=True)
class Address:
    """An address of the network, and whether TLS is spoken there."""

    host: str
    port: int
    is_tls: bool = False

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback


def parse_address(text: str) -> Address | Path | None:
    """Where a door listens: an address, a Unix socket, None for `none`; ValueError: what is wrong.

    A file name beginning with `/` is a path; an address is numbers, but for `localhost`."""
    if text == "none":
        return None
    if text.startswith("/"):
        return _socket_path(text)
    found = re.fullmatch(r"(https://)?(?:\[([^\[\]]+)\]|([^:/\[\]]+)):([0-9]{1,5})", text)
    if not found or int(found[4]) > 65_535:
        raise ValueError("it is neither [https://]ADDRESS:PORT, an absolute path, nor none")
    host = "127.0.0.1" if found[3] == "localhost" else found[2] or found[3]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{host!r} is not an IP address") from None
    return Address(host, int(found[4]), is_tls=bool(found[1]))


def check_door(key: str, text: str) -> None:
    """Raise ValueError where this door cannot be there."""
    address = parse_address(text)
    if key in GRPC_DOORS and (isinstance(address, Path) or (address and address.is_tls)):
        raise ValueError("a gRPC door is ADDRESS:PORT or none; tls.grpc makes it speak TLS")


def open_to_others(settings: Mapping[str, object]) -> list[str]:
    """The doors that other machines can reach, by setting."""
    addresses = {key: parse_address(str(settings[key])) for key in (*HTTP_DOORS, *GRPC_DOORS)}
    return [key for key, a in addresses.items() if isinstance(a, Address) and not a.is_local]


def _socket_path(text: str) -> Path:
    if len(os.fsencode(text)) > LONGEST_SOCKET_PATH:
        raise ValueError(f"a socket's path has room for {LONGEST_SOCKET_PATH} bytes")
    return Path(text)
