"""TorchServe's tokens: made anew at each start, told in a file, asked for at TCP doors.

A token is good for one kind of request and for some time; the third one, which renews the other
two, is good until the daemon ends. Nobody but the file's owner may read the file."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from tsd.api import answers
from tsd.api.access import audit, caller_of
from tsd.api.routes import Call, Check
from tsd.errors import StartupError, StateNotSaved, TokenRefused
from tsd.http.message import Request, Response
from tsd.log import get_logger
from tsd.settings import AccessSettings

Kind = Literal["inference", "management", "API"]
RENEWABLE: tuple[Kind, ...] = ("management", "inference")
FILE_NAME = "key_file.json"
KEY_BYTES = 6

BEARER = re.compile(r"Bearer\s+(\S+)", re.ASCII)
REFUSED = "Token {} failed. Token either incorrect, expired, or not provided correctly"
NOT_AUTHORIZED = REFUSED.format("Authorization")
NOT_AUTHENTICATED = REFUSED.format("Authentication")

log = get_logger()


@dataclass(frozen=True, slots=True)
class Key:
    """What a caller must present; `expires_at` is monotonic, `expires` is for people."""

    text: str
    expires_at: float | None = None
    expires: str = ""

    def fits(self, offered: str, now: float) -> bool:
        """Whether that is this key, and still good. It takes as long for every wrong one."""
        is_same = hmac.compare_digest(self.text.encode(), offered.encode())
        return is_same and (self.expires_at is None or now < self.expires_at)


class Tokens:
    """The keys in force and their file."""

    def __init__(
        self, path: Path, lifetime_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._keys: dict[Kind, Key] = {kind: self._new_key() for kind in RENEWABLE}
        self._keys["API"] = Key(_random_text())
        # Two renewals at once would each write the other's old key.
        self._renewing = asyncio.Lock()

    def publish(self) -> None:
        """Write the file; without it nobody could be let in."""
        try:
            _write(self._path, self._keys)
        except OSError as error:
            raise StartupError(
                f"cannot write the tokens to {self._path}",
                why=error.strerror or str(error),
                fix="set access.key_file to a place that the daemon may write to",
            ) from error
        log.info("tokens are needed at TCP doors; they are in %s", self._path, code="tokens")

    def check(self, kind: Kind, authorization: str | None) -> None:
        """Let a caller pass who presents the token of that kind; else TokenRefused."""
        found = BEARER.fullmatch(authorization or "")
        if found is None or not self._keys[kind].fits(found[1], self._clock()):
            raise TokenRefused(NOT_AUTHENTICATED if kind == "API" else NOT_AUTHORIZED)

    def check_of(self, kind: Kind) -> Check:
        """The same for HTTP requests, where TorchServe looks at the first such header."""

        def check(request: Request) -> None:
            self.check(kind, _first_authorization(request))

        return check

    async def renew(self, call: Call) -> Response:
        """`/token?type=management|inference`: a new key; the old one is no good any more."""
        audit(caller_of(call.request), call.request)
        wanted = call.query.get("type")
        kind = next((kind for kind in RENEWABLE if kind == wanted), None)
        if kind is None:
            raise TokenRefused(NOT_AUTHENTICATED)
        async with self._renewing:
            keys = self._keys | {kind: self._new_key()}
            try:
                await asyncio.to_thread(_write, self._path, keys)
            except OSError as error:
                raise StateNotSaved("The token could not be saved.", why=str(error)) from error
            self._keys = keys
        return answers.text_answer(b"\n", b"application/json")

    def _new_key(self) -> Key:
        expires = datetime.now(UTC) + timedelta(seconds=self._lifetime_s)
        text = expires.isoformat(timespec="microseconds").replace("+00:00", "Z")
        return Key(_random_text(), self._clock() + self._lifetime_s, text)


def make_tokens(settings: AccessSettings) -> Tokens | None:
    """As configured; the file lies in the working directory unless another place is named."""
    if not settings.tokens:
        return None
    return Tokens((settings.key_file or Path(FILE_NAME)).absolute(), settings.token_lifetime_s)


def _random_text() -> str:
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode("ascii")


def _first_authorization(request: Request) -> str | None:
    for name, value in request.headers:
        if name.lower() == b"authorization":
            return value.decode("latin-1")
    return None


def _write(path: Path, keys: dict[Kind, Key]) -> None:
    """Replace the file at once: a reader finds the old keys or the new ones, never a part."""
    told: dict[str, dict[str, str]] = {}
    for kind, key in keys.items():
        expires = {"expiration time": key.expires} if key.expires else {}
        told[kind] = {"key": key.text, **expires}
    # Made with mode 0600 from the start.
    descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(told, file, indent=2)
        Path(aside).replace(path)
    except OSError:
        Path(aside).unlink(missing_ok=True)
        raise
