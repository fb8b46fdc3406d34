"""gRPC calls from tables of field numbers, without generated code.

So the tests do not believe what the server under test says of its own messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from tests.torchserve.wire import Address, Silence

Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "string": Field.TYPE_STRING,
    "bytes": Field.TYPE_BYTES,
    "bool": Field.TYPE_BOOL,
    "int32": Field.TYPE_INT32,
    "int64": Field.TYPE_INT64,
    "uint32": Field.TYPE_UINT32,
    "uint64": Field.TYPE_UINT64,
    "float": Field.TYPE_FLOAT,
    "double": Field.TYPE_DOUBLE,
}


@dataclass(frozen=True)
class CallReply:
    """How one call ended, and the messages that came before."""

    code: str
    details: str = ""
    messages: list[Any] = field(default_factory=list)


class Services:
    """The services of a table: packages, methods, and messages by field number.

    A field is [number, type]; a type is a scalar's name, a message of the table or `map`
    (string to bytes), with a `*` after it when the field is repeated."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        pool = descriptor_pool.DescriptorPool()
        pool.Add(described(table["messages"]))
        self._packages: dict[str, str] = table["packages"]
        self._methods: dict[str, list[str]] = table["methods"]
        self._classes = {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"told.{name}"))
            for name in table["messages"]
        }

    def call(
        self, address: Address, step: Mapping[str, Any], patience_s: float
    ) -> CallReply | Silence:
        """Make the step's call; a list of messages is sent as a stream."""
        service, _, name = step["call"].partition("/")
        asked, answered, kind = self._methods[step["call"]]
        with grpc.insecure_channel(f"{address.host}:{address.port}") as channel:
            method = getattr(channel, kind)(
                f"/{self._packages[service]}.{service}/{name}",
                request_serializer=self._classes[asked].SerializeToString,
                response_deserializer=self._classes[answered].FromString,
            )
            given = step.get("message", {})
            messages = [filled(self._classes[asked](), each) for each in as_list(given)]
            metadata = tuple(step.get("metadata", {}).items())
            return ended(
                method,
                iter(messages) if kind.startswith("stream") else messages[0],
                patience_s,
                metadata,
            )


def ended(
    method: Any, given: Any, patience_s: float, metadata: tuple[tuple[str, str], ...]
) -> CallReply | Silence:
    messages: list[Any] = []
    try:
        reply = method(given, timeout=patience_s, metadata=metadata)
        for message in [reply] if isinstance(reply, Message) else reply:
            messages.append(plain(message))
    except grpc.RpcError as error:
        code, details = error.code().name, error.details() or ""
        if (code, details) == ("DEADLINE_EXCEEDED", "Deadline Exceeded"):
            return Silence()  # the client's own word for it
        return CallReply(code, details, messages)
    return CallReply("OK", "", messages)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def described(messages: Mapping[str, Any]) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="told.proto", package="told", syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            message.field.append(described_field(field_name, number, kind))
    return file


def described_field(name: str, number: int, kind: str) -> Field:
    label = Field.LABEL_REPEATED if kind.endswith("*") else Field.LABEL_OPTIONAL
    scalar = SCALARS.get(kind.rstrip("*"))
    if scalar is not None:
        return Field(name=name, number=number, label=label, type=scalar)
    return Field(
        name=name,
        number=number,
        label=label,
        type=Field.TYPE_MESSAGE,
        type_name=f".told.{kind.rstrip('*')}",
    )


def filled(message: Message, value: Mapping[str, Any]) -> Message:
    """The message with these fields; strings of bytes fields are one character a byte."""
    for name, item in value.items():
        told = message.DESCRIPTOR.fields_by_name[name]
        for each in entries(told, item):
            if told.message_type is not None:
                target = getattr(message, name)
                filled(target.add() if told.is_repeated else target, each)
                if not told.is_repeated:
                    target.SetInParent()
            elif told.is_repeated:
                getattr(message, name).append(as_scalar(told, each))
            else:
                setattr(message, name, as_scalar(told, each))
    return message


def entries(told: Any, item: Any) -> list[Any]:
    """The values of one field; an object for a repeated message is a map's entries."""
    if told.is_repeated and isinstance(item, dict):
        return [{"key": key, "value": value} for key, value in item.items()]
    return item if told.is_repeated else [item]


def as_scalar(told: Any, value: Any) -> Any:
    return value.encode("latin-1") if told.type == Field.TYPE_BYTES else value


def plain(message: Message) -> dict[str, Any]:
    """What was set in a message, as JSON could say it; bytes are read as UTF-8."""
    return dict(plain_fields(message))


def plain_fields(message: Message) -> Iterator[tuple[str, Any]]:
    for told, value in message.ListFields():
        if told.is_repeated:
            yield told.name, [plain_item(each) for each in value]
        else:
            yield told.name, plain_item(value)


def plain_item(value: Any) -> Any:
    if isinstance(value, Message):
        return plain(value)
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
