"""A gRPC client made from .proto files, or from what a server says of itself by reflection.

Its descriptions have a pool of their own, so that they are not those of the daemon's code."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc_tools
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2
from grpc_tools import protoc

PROTOS = Path(__file__).parent / "protos"
GOOGLES_PROTOS = Path(grpc_tools.__file__).parent / "_proto"

INFERENCE = "org.pytorch.serve.grpc.inference.InferenceAPIsService"
MANAGEMENT = "org.pytorch.serve.grpc.management.ManagementAPIsService"

CALL_S = 60.0


class Stub:
    """The methods of one service: `call` gives one message, `stream` all that come."""

    def __init__(self, channel: grpc.Channel, service: str, pool: DescriptorPool) -> None:
        self._channel = channel
        self._service = pool.FindServiceByName(service)

    def call(self, method: str, **fields: object) -> Any:
        """One message in, one out."""
        return self.start(method, fields).result()

    def start(
        self,
        method: str,
        fields: Mapping[str, object],
        timeout_s: float = CALL_S,
        token: str | None = None,
    ) -> Any:
        """The same, not waited for: the call, which can be cancelled."""
        description = self._service.methods_by_name[method]
        make = self._channel.unary_unary(*self._path(description), **_codecs(description))
        request = _class(description.input_type)(**fields)
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        return make.future(request, timeout=timeout_s, metadata=metadata)

    def stream(self, method: str, **fields: object) -> Any:
        """One message in; the call, from which messages can be read."""
        description = self._service.methods_by_name[method]
        make = self._channel.unary_stream(*self._path(description), **_codecs(description))
        return make(_class(description.input_type)(**fields), timeout=CALL_S)

    def converse(self, method: str, requests: Iterable[Mapping[str, object]]) -> Iterator[Any]:
        """Messages in and out."""
        description = self._service.methods_by_name[method]
        make = self._channel.stream_stream(*self._path(description), **_codecs(description))
        one = _class(description.input_type)
        yield from make((one(**fields) for fields in requests), timeout=CALL_S)

    def _path(self, description: MethodDescriptor) -> tuple[str]:
        return (f"/{self._service.full_name}/{description.name}",)


def torchserves_messages() -> DescriptorPool:
    """What TorchServe's clients are made from."""
    with tempfile.NamedTemporaryFile() as file:
        names = [path.name for path in sorted(PROTOS.glob("*.proto"))]
        places = [f"-I{PROTOS}", f"-I{GOOGLES_PROTOS}"]
        out = ["--include_imports", f"--descriptor_set_out={file.name}"]
        assert protoc.main(["protoc", *places, *out, *names]) == 0
        return _pool(FileDescriptorSet.FromString(Path(file.name).read_bytes()).file)


def reflected(channel: grpc.Channel, service: str) -> DescriptorPool:
    """What the server says of a service."""
    question = reflection_pb2.ServerReflectionRequest(file_containing_symbol=service)
    answer = next(_ask_reflection(channel, question))
    files = answer.file_descriptor_response.file_descriptor_proto
    return _pool([FileDescriptorProto.FromString(file) for file in files])


def services(channel: grpc.Channel) -> list[str]:
    """The names of all services of the server."""
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(_ask_reflection(channel, question))
    return sorted(service.name for service in answer.list_services_response.service)


def _ask_reflection(channel: grpc.Channel, question: Any) -> Iterator[Any]:
    make = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    yield from make(iter([question]), timeout=CALL_S)


def _pool(files: Iterable[FileDescriptorProto]) -> DescriptorPool:
    """All of them, each behind those that it imports."""
    pool, left = DescriptorPool(), {file.name: file for file in files}
    while left:
        ready = [file for file in left.values() if not left.keys() & set(file.dependency)]
        for file in ready:
            pool.Add(left.pop(file.name))
    return pool


def _class(message: Any) -> Any:
    return message_factory.GetMessageClass(message)


def _codecs(description: MethodDescriptor) -> Any:
    return {
        "request_serializer": lambda message: message.SerializeToString(),
        "response_deserializer": _class(description.output_type).FromString,
    }
