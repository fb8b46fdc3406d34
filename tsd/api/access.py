"""Who is calling, and may they.

The kernel says who is at the other end of the control socket; its file mode (0660, group) has
let them in. Who comes by TCP is nobody in particular. Every change is audited with its caller."""

from __future__ import annotations

from dataclasses import dataclass

from tsd.http.message import Request
from tsd.log import get_logger

CONTROL = "control"

log = get_logger()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: for the audit, and for what only somebody on this machine may ask."""

    name: str
    is_operator: bool


def caller_of(request: Request) -> Caller:
    """The caller as the kernel, or else the address, names it."""
    peer = request.peer
    is_operator = request.door == CONTROL
    if peer is not None:
        return Caller(f"uid={peer.uid} gid={peer.gid} pid={peer.pid}", is_operator)
    return Caller(request.remote, is_operator)


def audit(caller: Caller, request: Request) -> None:
    """One line for every change that is asked for."""
    log.info("%s %s by %s", request.method, request.path, caller.name, code="audit")
