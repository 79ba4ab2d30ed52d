"""Expert folders into a running cluster, through the Publish RPC of its admin listener."""

from __future__ import annotations

import pathlib
from typing import Iterator

from coterie_experts.errors import Refused
from coterie_experts.files import sha256_of_file
from coterie_experts.product.gateway import Gateway
from coterie_experts.publishing.folders import FILES
from coterie_experts.run.manifest import Manifest

_CHUNK_BYTES = 1 << 20  # the RPC's limit


def check_gateway(gateway: Gateway, manifest: Manifest) -> None:
    """Refused unless the gateway serves the base and the embedder that the run was made with."""
    served = gateway.identity()
    for what, ours, theirs in (("base", manifest.base["digest"], served.base_digest),
                               ("embedder", manifest.embedder["digest"], served.embedder_digest)):
        if ours != theirs:
            raise Refused(f"the run was made with the {what} {ours[:12]}…, the gateway at {gateway.address} serves {theirs[:12]}…: "
                          f"cluster again with that gateway, or publish to another")


def _messages(gateway: Gateway, folder: pathlib.Path) -> Iterator:
    make = gateway.protocol.PublishExpertRequest
    header = make()
    header.header.name = folder.name
    for name in FILES:
        path = folder / name
        header.header.files.add(name=name, size_bytes=path.stat().st_size, sha256=sha256_of_file(path))
    yield header
    for index, name in enumerate(FILES):
        with open(folder / name, "rb") as file:
            while data := file.read(_CHUNK_BYTES):
                message = make()
                message.chunk.file_index, message.chunk.data = index, data
                yield message


def publish(gateway: Gateway, folder: pathlib.Path):
    """The PublishExpertResponse. Idempotent: what is already live stays as it is, and the answer says so."""
    return gateway.admin_call("ExpertService.Publish", _messages(gateway, folder), timeout_seconds=600)
