"""What the gRPC doors tell tools like grpcurl about their services (grpc.reflection)."""

from __future__ import annotations

from google.protobuf import any_pb2, empty_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.text_format import MessageToString, Parse
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from tsd.grpc.protos import inference_pb2, management_pb2, open_inference_pb2

NAME = "grpc.reflection.v1alpha.ServerReflection"
STANDARD_PACKAGE = "inference"


def descriptions() -> DescriptorPool:
    """All that is spoken here. A pool of its own: the names in it are nobody else's business."""
    pool = DescriptorPool()
    for file in (any_pb2, empty_pb2, health_pb2, reflection_pb2, inference_pb2, management_pb2):
        pool.Add(_description(file.DESCRIPTOR))
    torchserves = _description(open_inference_pb2.DESCRIPTOR)
    pool.Add(torchserves)
    pool.Add(_under_package(STANDARD_PACKAGE, torchserves))
    return pool


def _description(file: FileDescriptor) -> FileDescriptorProto:
    description = FileDescriptorProto()
    file.CopyToProto(description)
    return description


def _under_package(package: str, file: FileDescriptorProto) -> FileDescriptorProto:
    """The same messages and services under another name."""
    text = MessageToString(file).replace(f'".{file.package}.', f'".{package}.')
    renamed = Parse(text, FileDescriptorProto())
    renamed.name, renamed.package = f"{package}.proto", package
    return renamed
