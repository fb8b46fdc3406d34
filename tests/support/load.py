"""Many clients at once: each request carries a value that its answer must echo."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Verdict:
    """What came back: how many right answers, and of everything else how much of what."""

    right: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    began_at: float = field(default_factory=time.monotonic)
    last_at: float = field(default_factory=time.monotonic)
    longest_gap_s: float = 0.0

    def count(self, status: int, body: bytes, expected: bytes) -> None:
        if status == 200 and body == expected:
            now = time.monotonic()
            self.longest_gap_s = max(self.longest_gap_s, now - self.last_at)
            self.last_at = now
            self.right += 1
        elif status == 200:
            self.wrong[f"answer of another request: {body[:40]!r} for {expected[:40]!r}"] += 1
        else:
            self.wrong[f"{status} {body[:200]!r}"] += 1


class Client:
    """One keep-alive connection; it connects again where the server closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of one request."""
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = int(answer.split(b" ", 2)[1])
        length = int(answer.split(b"content-length: ")[1].split(b"\r\n")[0])
        content = await self._reader.readexactly(length)
        if b"connection: close" in answer:
            await self.close()
        return status, content

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._reader = self._writer = None


async def echo_load(
    port: int,
    requests: int,
    concurrency: int,
    path: str = "/predictions/echo",
    is_over: Callable[[Verdict], bool] = lambda _verdict: False,
) -> Verdict:
    """So many requests, or until it is over, each with a body of its own, by so many clients."""
    verdict, numbers = Verdict(), iter(range(requests))

    async def client() -> None:
        connection = Client(port)
        for number in numbers:
            if is_over(verdict):
                break
            body = b"request %d " % number + b"." * (number % 50)
            try:
                status, answer = await connection.post(path, body)
            except (OSError, asyncio.IncompleteReadError) as error:
                verdict.wrong[repr(error)] += 1
                await connection.close()
                continue
            verdict.count(status, answer, body)
        await connection.close()

    await asyncio.gather(*[client() for _ in range(concurrency)])
    return verdict
