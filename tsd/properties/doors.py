"""TorchServe's addresses as tsd's doors, and back.

TorchServe has a key for the address and one for the port of a gRPC door, names hosts, and leaves
ports out; a tsd door is one text (addresses.py)."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping

from tsd.addresses import Address, parse_address

HTTP_KEYS = {
    "inference_address": "doors.http",
    "management_address": "doors.management",
    "metrics_address": "doors.metrics",
}
GRPC_KEYS = {
    "doors.grpc": ("grpc_inference_address", "grpc_inference_port"),
    "doors.grpc_management": ("grpc_management_address", "grpc_management_port"),
}
METRICS_SWITCH = "enable_metrics_api"
"""A door by a key of its own: `false` closes that of metrics."""

KEYS = (*HTTP_KEYS, *(key for pair in GRPC_KEYS.values() for key in pair), METRICS_SWITCH)

_ADDRESS = re.compile(r"(https?)://([^:/]+)(?::([0-9]+))?/?", re.IGNORECASE)
_USUAL_PORTS = {
    ("inference_address", "http"): 80,
    ("inference_address", "https"): 443,
    ("management_address", "http"): 8081,
    ("management_address", "https"): 8444,
    ("metrics_address", "http"): 8082,
    ("metrics_address", "https"): 8445,
}
_GRPC_DEFAULTS = {"grpc_inference_port": "7070", "grpc_management_port": "7071"}
_LOOPBACK = "127.0.0.1"


def read_http(key: str, text: str) -> str:
    """`http(s)://HOST[:PORT]` or `unix:PATH` as a door; ValueError says what is wrong."""
    if text[:6].lower() == "unix:/":
        return text[5:]
    found = _ADDRESS.fullmatch(text)
    if not found:
        raise ValueError("it is neither http://HOST:PORT, https://HOST:PORT nor unix:/PATH")
    scheme = found[1].lower()
    port = found[3] or str(_USUAL_PORTS[key, scheme])
    return ("https://" if scheme == "https" else "") + f"{_numeric(found[2])}:{port}"


def read_grpc(setting: str, properties: Mapping[str, str]) -> str:
    """The door that the two keys describe together."""
    address_key, port_key = GRPC_KEYS[setting]
    host = _numeric(properties.get(address_key) or _LOOPBACK)
    return f"{host}:{properties.get(port_key) or _GRPC_DEFAULTS[port_key]}"


def write(settings: Mapping[str, object]) -> dict[str, str]:
    """The properties that describe these doors; one that is closed has none."""
    found = {}
    for key, setting in HTTP_KEYS.items():
        address = parse_address(str(settings[setting]))
        if isinstance(address, Address):
            scheme = "https" if address.is_tls else "http"
            found[key] = f"{scheme}://{address.host}:{address.port}"
        elif address is not None:
            found[key] = f"unix:{address}"
    for setting, (address_key, port_key) in GRPC_KEYS.items():
        address = parse_address(str(settings[setting]))
        if isinstance(address, Address):
            found |= {address_key: address.host, port_key: str(address.port)}
    is_open = settings[HTTP_KEYS["metrics_address"]] != "none"
    return found | {METRICS_SWITCH: "true" if is_open else "false"}


def _numeric(host: str) -> str:
    """The address of a host as a door shows it: a name is asked for once, at the start."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"the host {host!r} is not known: {error.strerror}") from None
    addresses = [str(address[0]) for *_, address in found]
    usual = next((address for address in addresses if ":" not in address), addresses[0])
    return f"[{usual}]" if ":" in usual else usual
