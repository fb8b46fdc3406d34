"""Answers with what it was given, for request envelopes."""

from typing import Any


class Listing:
    def initialize(self, context: Any) -> None:
        pass

    def handle(self, data: Any, context: Any) -> Any:
        header = context.get_request_header(0, "x-return")
        return eval(header, {"data": data}) if header else [repr(each) for each in data]
