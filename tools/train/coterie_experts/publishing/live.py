"""Expert folders into a running cluster, through the admin listener of a gateway: one, or many in one generation."""

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
        if not path.is_file():
            raise Refused(f"{path} is missing or no regular file")
        header.header.files.add(name=name, size_bytes=path.stat().st_size, sha256=sha256_of_file(path))
    yield header
    for index, name in enumerate(FILES):
        with open(folder / name, "rb") as file:
            while data := file.read(_CHUNK_BYTES):
                message = make()
                message.chunk.file_index, message.chunk.data = index, data
                yield message


def publish_many(gateway: Gateway, folders: list[pathlib.Path], restore_catalogue: bool = False) -> Iterator[tuple[pathlib.Path, object]]:
    """Each folder with its PublishManyResponse, in order, once all were sent: one generation, or with a refused one
    (`published` not set; `message` says why) all of the others."""
    def messages() -> Iterator:
        for folder in folders:
            for message in _messages(gateway, folder):
                if message.WhichOneof("part") == "header":
                    message.header.restore_catalogue = restore_catalogue
                yield message

    answers = gateway.admin_stream("ExpertService.PublishMany", messages(), timeout_seconds=600 + len(folders))
    yield from zip(folders, answers, strict=True)
