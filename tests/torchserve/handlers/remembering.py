"""Counts the requests of each sequence."""

from typing import Any


class Remembering:
    def initialize(self, context: Any) -> None:
        context.cache = {}

    def handle(self, data: Any, context: Any) -> Any:
        return [self.answer(i, row, context) for i, row in enumerate(data)]

    def answer(self, i: int, row: Any, context: Any) -> Any:
        sequence = context.get_sequence_id(i)
        if context.get_request_header(i, context.header_key_sequence_start) == "true":
            context.cache[sequence] = []
        seen = context.cache.setdefault(sequence, [])
        seen.append(bytes(row["body"]).decode())
        context.set_response_header(i, context.header_key_sequence_id, sequence)
        if context.get_request_header(i, context.header_key_sequence_end) == "true":
            context.set_response_header(i, context.header_key_sequence_end, sequence)
        return {"sequence": sequence, "seen": seen}
