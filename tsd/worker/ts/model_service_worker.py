"""TorchModelServiceWorker: the name of TorchServe's worker process. tsd's workers are others."""

from __future__ import annotations

from typing import Any, NoReturn

from ts.model_loader import ModelLoaderFactory
from ts.service import Service


class TorchModelServiceWorker:
    """Loads a model as its namesake does; it does not listen on a socket."""

    def __init__(
        self,
        s_type: str | None = None,
        s_name: str | None = None,
        host_addr: str | None = None,
        port_num: int | None = None,
        metrics_config: str | None = None,
        async_comm: bool | None = False,  # noqa: FBT001, FBT002
    ) -> None:
        self.sock_type = s_type
        self.sock_name = s_name if s_type == "unix" else host_addr or "127.0.0.1"
        self.port = port_num
        self.metrics_config = metrics_config
        self.async_comm = async_comm

    def load_model(self, load_model_request: dict[str, Any]) -> tuple[Service, str, int]:
        """The service that a LOAD command of the wire asks for; raises what the handler raises."""
        texts = {
            name: (load_model_request.get(name) or b"").decode()
            for name in ("modelName", "modelPath", "handler", "envelope")
        }
        gpu = load_model_request.get("gpu")
        service = ModelLoaderFactory.get_model_loader().load(
            texts["modelName"],
            texts["modelPath"],
            texts["handler"],
            None if gpu is None else int(gpu),
            int(load_model_request.get("batchSize") or 1),
            texts["envelope"],
            bool(load_model_request.get("limitMaxImagePixels", True)),
        )
        return service, f"loaded model {texts['modelName']}", 200

    def run_server(self) -> NoReturn:
        """Refuse: a worker of tsd is forked by its fork server and is given its channel."""
        raise RuntimeError("tsd starts its workers itself; this module runs none")
