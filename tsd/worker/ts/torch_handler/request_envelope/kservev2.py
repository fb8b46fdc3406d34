"""KServev2Envelope: KServe's second protocol, the Open Inference one; one request in a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from ts.torch_handler.request_envelope.base import BaseEnvelope, body_of

# By the name of numpy's type, else by the letter of its kind.
DATATYPES = {
    "bool": "BOOL",
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    **dict.fromkeys("OSU", "BYTES"),
}


class KServev2Envelope(BaseEnvelope):
    """The handler gets the `inputs` of the first request, their `data` in their `shape`."""

    def parse_input(self, data: Any) -> list[dict[str, Any]]:
        """Its inputs; what the answer needs of the request is kept on the context."""
        request = body_of(data[0])
        self.context.input_names = [each["name"] for each in request["inputs"]]
        if (request.get("id") or "").strip():
            self.context.input_request_id = request["id"]
        return [each | {"data": _shaped(each)} for each in request["inputs"]]

    def format_output(self, data: Any) -> list[dict[str, Any]]:
        """One output for each input, by its name."""
        state = vars(self.context)
        model = self.context.manifest["model"]
        names = state.pop("input_names")
        return [
            {
                "id": state.pop("input_request_id", None) or self.context.get_request_id(0),
                "model_name": model.get("modelName"),
                "model_version": model.get("modelVersion"),
                "outputs": [_output(names[index], each) for index, each in enumerate(data)],
            }
        ]


def _shaped(given: dict[str, Any]) -> Any:
    if given["datatype"] == "BYTES":
        return given["data"][0]
    return np.array(given["data"]).reshape(given["shape"]).tolist()


def _output(name: str, result: Any) -> dict[str, Any]:
    flat = np.array(result).flatten()
    datatype = DATATYPES.get(str(flat.dtype)) or DATATYPES[flat.dtype.kind]
    return {"name": name, "datatype": datatype, "data": flat.tolist(), "shape": list(flat.shape)}
