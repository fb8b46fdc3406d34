"""Continuous batching: as many steps as the request's header says."""

from typing import Any


class Stepping:
    def initialize(self, context: Any) -> None:
        self.steps: dict[str, int] = {}

    def handle(self, data: Any, context: Any) -> Any:
        answers, stops = [], []
        for i, row in enumerate(data):
            request = context.get_request_id(i)
            wanted = int(context.get_request_header(i, "x-steps") or 1)
            done = self.steps[request] = self.steps.get(request, 0) + 1
            answers.append(f"{done} of {wanted}, {len(row)} inputs;")
            stops.append(lambda answer, finished=done >= wanted: finished)
        context.stopping_criteria = stops
        return answers
