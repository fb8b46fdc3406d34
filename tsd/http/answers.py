"""The answers that one connection owes: in order, joined, bounded by what the client takes.

Which requests there are, and when the connection ends, is decided in connection.py."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable

from tsd.http.message import BODILESS, CONTINUE, KEPT, Request, Response, head_bytes, whole

# Larger bodies leave as they are, without a copy; smaller ones in one write with their head.
UNCOPIED_BYTES = 256 * 1024
NOTHING = memoryview(b"")

OnAnswer = Callable[[Request, Response], None]
"""Told of each answer that has been written to the end."""


class Answers:
    """What has been asked and not yet answered, oldest first."""

    __slots__ = (
        "_counts",
        "_on_answer",
        "_piece_bytes",
        "_pieces",
        "_pieces_bytes",
        "_sent_bytes",
        "_sent_since",
        "_transport",
        "_unsent",
        "_unsent_release",
        "_written_bytes",
        "final",
        "is_done",
        "is_paused",
        "permitted",
        "waiting",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        now: float,
        counts: Counter[int],
        on_answer: OnAnswer | None = None,
    ) -> None:
        self._transport = transport
        # By the first digit of the status.
        self._counts = counts
        self._on_answer = on_answer
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0
        # What is left of a large body, and how much of it is written at a time.
        self._unsent = NOTHING
        self._piece_bytes = 0
        # To be called when the transport no longer reads from the body that it was given.
        self._unsent_release: Callable[[], None] | None = None
        self._written_bytes = 0
        self._sent_bytes = 0
        self._sent_since = now
        self.waiting: deque[Request] = deque()
        # The one whose client waits until it is told to send the body.
        self.permitted: Request | None = None
        # What is said after all answers, at the end of the connection.
        self.final = b""
        self.is_paused = False
        # Nothing more will be written.
        self.is_done = False

    def flush(self, *, ends: bool) -> None:
        """Write what is ready and in turn; `ends`: nothing comes after those that wait now."""
        while self.waiting and not (self.is_paused or self.is_done):
            if not self._answer_next(ends=ends):
                break
        if ends and not (self.waiting or self.is_paused or self.is_done):
            self._push(self.final)
            self.is_done = True
        if self._pieces:
            self._write()

    def send_only(self, request: Request) -> bool:
        """The short way of a small whole answer, the only one that waits; False: not for this.

        It saves a fifth of what a small request costs in this folder."""
        response = request.answer
        if (
            response is None
            or response.is_last
            or self.is_paused
            or self._pieces
            or request.is_last
            or request.streamed is not None
            or request.head.method == "HEAD"
        ):
            return False
        status, body = response.status, response.body
        size = len(body)
        if size >= UNCOPIED_BYTES or status in BODILESS:
            return False
        self.waiting.clear()
        data = KEPT % (status, response.reason, response.head, size, body)
        self._written_bytes += len(data)
        self._transport.write(data)
        self._counts[status // 100] += 1
        if self._on_answer is not None:
            self._on_answer(request, response)
        if response.release is not None:
            response.free()
        return True

    def resume(self) -> None:
        """The client has taken what was written: go on."""
        self.is_paused = False
        while self._unsent:
            piece, self._unsent = (
                self._unsent[: self._piece_bytes],
                self._unsent[self._piece_bytes :],
            )
            self._written_bytes += len(piece)
            self._transport.write(piece)
            if self._transport.get_write_buffer_size():
                self.is_paused = True
                return
        self._transport.set_write_buffer_limits()
        self._unsent = NOTHING
        self._free_unsent()

    def abandon(self) -> None:
        """Nobody who waits is answered any more."""
        while self.waiting:
            self.waiting.popleft().lose()

    def lose(self) -> None:
        """The client has gone."""
        self.is_done = True
        self._unsent = NOTHING
        self._free_unsent()
        self.abandon()

    def is_stalled(self, now: float, timeout_s: float) -> bool:
        """Whether the client has taken nothing of what waits for it for so long."""
        sent = self._written_bytes - self._transport.get_write_buffer_size()
        if sent > self._sent_bytes or sent == self._written_bytes:
            self._sent_bytes, self._sent_since = sent, now
        return now - self._sent_since > timeout_s

    def look_anew(self, now: float) -> None:
        """Nobody has looked for a while, for nothing was on its way: time counts from now."""
        self._sent_since = now

    def _answer_next(self, *, ends: bool) -> bool:
        request = self.waiting[0]
        response = request.answer
        if response is None:
            self._permit(request)
            return False
        is_last = request.is_last or response.is_last or (ends and self._is_last_word())
        if request.streamed is not None:
            self._push(request.streamed.take(response, is_last=is_last))
            if request.streamed.is_open:
                return False
            if request.streamed.is_broken:
                self._cut()
                return False
        self.waiting.popleft()
        self.is_done = is_last
        if request.streamed is None:
            self._push_whole(request, response, is_last=is_last)
        self._count(request, response)
        if response.release is not None:
            response.free()
        return True

    def _cut(self) -> None:
        """An answer ends without its end: what is ready goes out, then the connection is cut."""
        self._write()
        self.is_done = True
        self._transport.abort()

    def _count(self, request: Request, response: Response) -> None:
        self._counts[response.status // 100] += 1
        if self._on_answer is not None:
            self._on_answer(request, response)

    def _is_last_word(self) -> bool:
        return len(self.waiting) == 1 and not self.final

    def _permit(self, request: Request) -> None:
        """Its turn has come: the client may send the body that it holds back."""
        if request is self.permitted:
            self.permitted = None
            self._push(CONTINUE)

    def _push_whole(self, request: Request, response: Response, *, is_last: bool) -> None:
        has_body = request.method != "HEAD"
        if len(response.body) < UNCOPIED_BYTES or not has_body or response.status in BODILESS:
            self._push(whole(response, has_body=has_body, is_last=is_last))
        else:
            length_line = b"content-length: %d\r\n" % len(response.body)
            self._push(head_bytes(response, length_line, is_last=is_last))
            self._write_uncopied(response)

    def _push(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._pieces_bytes += len(piece)
            if self._pieces_bytes >= UNCOPIED_BYTES:
                self._write()

    def _write(self) -> None:
        if self._pieces:
            pieces, self._pieces, self._pieces_bytes = self._pieces, [], 0
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            self._written_bytes += len(data)
            self._transport.write(data)

    def _write_uncopied(self, response: Response) -> None:
        self._write()
        is_encrypted = self._transport.get_extra_info("sslcontext") is not None
        # With (next to) no buffer allowed, `resume` is called only when the kernel has taken all.
        # Over TLS, what is written is encrypted at once, whatever the client takes: so in pieces.
        self._transport.set_write_buffer_limits(high=1 if is_encrypted else 0)
        self._unsent_release, response.release = response.release, None
        self._unsent = memoryview(response.body)
        self._piece_bytes = UNCOPIED_BYTES if is_encrypted else len(response.body)
        self.resume()

    def _free_unsent(self) -> None:
        if self._unsent_release is not None:
            release, self._unsent_release = self._unsent_release, None
            release()
