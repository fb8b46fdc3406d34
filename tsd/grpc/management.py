"""TorchServe's management service: ManagementAPIsService, by the verbs of the HTTP routes."""

from __future__ import annotations

from google.protobuf.message import Message

from tsd.api.answers import json_text
from tsd.api.management import LIST_LIMIT, Management, Work
from tsd.errors import BadRequest, ModelApiDisabled
from tsd.grpc.calls import Call, Rpc
from tsd.grpc.protos.management_pb2 import (
    DescribeModelRequest,
    ListModelsRequest,
    ManagementResponse,
    RegisterModelRequest,
    ScaleWorkerRequest,
    SetDefaultRequest,
    UnregisterModelRequest,
)
from tsd.grpc.statuses import of_change
from tsd.log import get_logger
from tsd.operations import Progress

NAME = "org.pytorch.serve.grpc.management.ManagementAPIsService"

log = get_logger()


class ManagementService:
    """The methods; `rpcs` is their table."""

    def __init__(self, management: Management, *, has_model_api: bool) -> None:
        self._management = management
        self._has_model_api = has_model_api

    @property
    def rpcs(self) -> dict[str, Rpc]:
        """Method -> what it reads, and who answers."""
        return {
            "DescribeModel": Rpc(DescribeModelRequest, self.describe, of_change),
            "ListModels": Rpc(ListModelsRequest, self.list_models, of_change),
            "RegisterModel": Rpc(RegisterModelRequest, self.register, of_change),
            "ScaleWorker": Rpc(ScaleWorkerRequest, self.scale, of_change),
            "SetDefault": Rpc(SetDefaultRequest, self.set_default, of_change),
            "UnregisterModel": Rpc(UnregisterModelRequest, self.unregister, of_change),
        }

    async def describe(self, request: DescribeModelRequest, _call: Call) -> ManagementResponse:
        """One version, or all."""
        version = request.model_version or None
        described = await self._management.description(
            request.model_name, version, is_customized=request.customized and version != "all"
        )
        return ManagementResponse(msg=json_text(described))

    async def list_models(self, request: ListModelsRequest, _call: Call) -> ManagementResponse:
        """A page of the models; a limit of 0 is none, which TorchServe takes by the letter."""
        page = self._management.page(request.limit or LIST_LIMIT, request.next_page_token)
        return ManagementResponse(msg=json_text(page))

    async def register(self, request: RegisterModelRequest, call: Call) -> ManagementResponse:
        """Register an archive."""
        self._check_model_api()
        _audit(call, "RegisterModel", request.url)
        work = self._management.registering(asked(request), is_local_caller=False)
        return await _done(work)

    async def scale(self, request: ScaleWorkerRequest, call: Call) -> ManagementResponse:
        """Bring the workers up to min_worker or down to max_worker."""
        _audit(call, "ScaleWorker", request.model_name)
        version = request.model_version or None
        return await _done(self._management.scaling(request.model_name, version, asked(request)))

    async def set_default(self, request: SetDefaultRequest, call: Call) -> ManagementResponse:
        """Make a version the one that answers when none is named."""
        _audit(call, "SetDefault", request.model_name)
        text = await self._management.make_default(request.model_name, request.model_version)
        return ManagementResponse(msg=text)

    async def unregister(self, request: UnregisterModelRequest, call: Call) -> ManagementResponse:
        """Strike a version out, when its running requests are answered."""
        self._check_model_api()
        _audit(call, "UnregisterModel", request.model_name)
        if not request.model_name:
            # TorchServe's words, though it is the name that is missing.
            raise BadRequest("Parameter url is required.")
        version = request.model_version or None
        return ManagementResponse(msg=await self._management.remove(request.model_name, version))

    def _check_model_api(self) -> None:
        if not self._has_model_api:
            raise ModelApiDisabled("Model API disabled")


def asked(request: Message) -> dict[str, str]:
    """The fields that say something, by the names that they have in a query."""
    said = {"synchronous": "false"}
    for field, value in request.ListFields():
        if isinstance(value, str) or value > 0:
            said[field.name] = str(value).lower() if value is True else str(value)
    return said


async def _done(work: Work) -> ManagementResponse:
    _, text, _ = await work(Progress(lambda _words: None))
    return ManagementResponse(msg=text)


def _audit(call: Call, method: str, what: str) -> None:
    """One line for every change that is asked for."""
    log.info("%s %s by %s", method, what, call.peer(), code="audit")
