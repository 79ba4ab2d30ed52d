"""The product's messages, made at run time from proto/coterie/v1: no generated code, no version to keep in step.

    protocol = Protocol()
    channel = grpc.insecure_channel("127.0.0.1:7070")
    protocol.call(channel, "GenerationService.Embed")(protocol.EmbedRequest(texts=["…"]), timeout=60)
"""

from __future__ import annotations

import functools
import importlib.resources
import pathlib
import tempfile

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from coterie_experts.errors import Refused

_PACKAGE = "coterie.v1"
_FILES = ("sampling", "generation", "expert", "cluster")


def _descriptors() -> descriptor_pb2.FileDescriptorSet:
    import grpc_tools
    from grpc_tools import protoc

    with importlib.resources.as_file(importlib.resources.files("coterie_experts") / "proto") as root, \
            tempfile.NamedTemporaryFile(suffix=".descriptors") as out:
        sources = [str(root / "coterie/v1" / f"{name}.proto") for name in _FILES]
        known = str(pathlib.Path(grpc_tools.__file__).parent / "_proto")  # google/protobuf/*.proto
        if protoc.main(["protoc", f"-I{root}", f"-I{known}", "--include_imports", f"--descriptor_set_out={out.name}", *sources]):
            raise Refused(f"cannot read the product's messages under {root}")
        return descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(out.name).read_bytes())


class Protocol:
    """Message classes as attributes, RPCs by name. One per process is enough: `Protocol.shared()`."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.DescriptorPool()
        for file in _descriptors().file:
            self._pool.Add(file)

    @staticmethod
    @functools.cache
    def shared() -> "Protocol":
        return Protocol()

    def __getattr__(self, name: str):
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        except KeyError:
            raise AttributeError(f"{_PACKAGE} has no message {name}") from None

    def call(self, channel: grpc.Channel, rpc: str):
        """A callable for `Service.Method`; what streams on either side follows from its definition."""
        service, method_name = rpc.split(".")
        method = self._pool.FindServiceByName(f"{_PACKAGE}.{service}").methods_by_name[method_name]
        proto = descriptor_pb2.MethodDescriptorProto()
        method.CopyToProto(proto)
        sides = {False: "unary", True: "stream"}
        make = getattr(channel, f"{sides[proto.client_streaming]}_{sides[proto.server_streaming]}")
        return make(f"/{_PACKAGE}.{service}/{method_name}",
                    request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=message_factory.GetMessageClass(method.output_type).FromString)
