"""LitServe with one worker, which calls the handler.

Called as: python litserve_app.py PORT HANDLER BATCH_SIZE CONTENT_TYPE"""

# Its packages are in the peer's own environment, where no type checker looks.
# mypy: disable-error-code="import-not-found, misc"

import importlib
import sys
from typing import Annotated, Any

from fastapi import Body, Request, Response
from litserve import LitAPI, LitServer

WAIT_S = 0.001


class Model(LitAPI):
    """The handler, batch by batch. LitServe itself has read the JSON of a `Request`."""

    def setup(self, _device: str) -> None:
        self._handle = importlib.import_module(sys.argv[2]).handle

    def decode_request(self, request: Request) -> Any:
        return request

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, inputs: Any) -> Any:
        # LitServe gives no list where a batch has room for one.
        if self.max_batch_size == 1:
            return self._handle([{"body": inputs}], None)[0]
        return self._handle([{"body": row} for row in inputs], None)

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        return output

    def encode_response(self, output: bytes) -> Response:
        return Response(output)


class BytesModel(Model):
    """The same for bodies of bytes."""

    def decode_request(
        self, request: Annotated[bytes, Body(media_type="application/octet-stream")]
    ) -> bytes:
        return request


if __name__ == "__main__":
    _, port, _, batch_size, content_type = sys.argv
    kind = Model if content_type == "application/json" else BytesModel
    api = kind(max_batch_size=int(batch_size), batch_timeout=WAIT_S)
    server = LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")
