"""An asynchronous handler."""

import asyncio
from typing import Any

from ts.handler_utils.utils import send_intermediate_predict_response


class Waiting:
    def initialize(self, context: Any) -> None:
        pass

    async def handle(self, data: Any, context: Any) -> Any:
        header = context.get_request_header
        await asyncio.sleep(float(header(0, "x-seconds") or 0))
        for part in (header(0, "x-parts") or "").split():
            send_intermediate_predict_response([part], context.request_ids, "part", 200, context)
        return eval(header(0, "x-return") or "['done'] * len(data)", {"data": data})
