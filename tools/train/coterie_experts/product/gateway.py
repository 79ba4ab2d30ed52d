"""A gateway to talk to: one that runs, or one that this process starts and ends.

Embedding, status and publishing need no worker, so the one started here has none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import select
import subprocess
import tempfile
import time
from typing import Iterator

import grpc

from coterie_experts.errors import Refused
from coterie_experts.product import binaries
from coterie_experts.product.protocol import Protocol

_START_SECONDS = 120.0
_READY = 2  # WORKER_HEALTH_READY
_NOBODY = "127.0.0.1:1"  # where no worker listens
_MAX_MESSAGE_BYTES = 64 << 20
_ASKED_AGAIN = {"GenerationService.Embed", "GenerationService.Score"}  # of these a full gateway wants fewer at once
_TRIES, _FIRST_WAIT_SECONDS = 8, 0.25


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a gateway serves: a run and its experts belong to one base and one embedder."""
    base_name: str
    base_digest: str
    embedder_digest: str


class Gateway:
    """Calls to one gateway. Not thread-safe in its making; its calls are."""

    def __init__(self, address: str, admin_address: str = "") -> None:
        options = [("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES), ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES)]
        self.address, self.admin_address = address, admin_address
        self.protocol = Protocol.shared()
        self._channel = grpc.insecure_channel(address, options)
        self._admin = grpc.insecure_channel(admin_address, options) if admin_address else None

    def close(self) -> None:
        self._channel.close()
        if self._admin:
            self._admin.close()

    def call(self, rpc: str, request, timeout_seconds: float = 120.0):
        """The answer, or Refused with the gateway's own words. Waits and asks again while the gateway is full."""
        return self._call(self._channel, self.address, rpc, request, timeout_seconds)

    def admin_call(self, rpc: str, request, timeout_seconds: float = 120.0):
        """The same at the admin listener; `request` is an iterator where the RPC takes a stream."""
        if self._admin is None:
            raise Refused(f"{rpc} needs the gateway's admin listener; give its address")
        return self._call(self._admin, self.admin_address, rpc, request, timeout_seconds)

    def stream(self, rpc: str, request, timeout_seconds: float = 120.0) -> Iterator:
        """The answers of an RPC that streams them, or Refused with the gateway's own words."""
        try:
            yield from self.protocol.call(self._channel, rpc)(request, timeout=timeout_seconds)
        except grpc.RpcError as error:
            raise Refused(f"{rpc} at {self.address}: {error.code().name}: {error.details()}") from error

    def admin_stream(self, rpc: str, requests: Iterator, timeout_seconds: float) -> Iterator:
        """The answers of an RPC of the admin listener that streams both ways, or Refused with the gateway's own words."""
        if self._admin is None:
            raise Refused(f"{rpc} needs the gateway's admin listener; give its address")
        try:
            yield from self.protocol.call(self._admin, rpc)(requests, timeout=timeout_seconds)
        except grpc.RpcError as error:
            raise Refused(f"{rpc} at {self.admin_address}: {error.code().name}: {error.details()}") from error

    def _call(self, channel: grpc.Channel, address: str, rpc: str, request, timeout_seconds: float):
        for attempt in range(_TRIES):
            try:
                return self.protocol.call(channel, rpc)(request, timeout=timeout_seconds)
            except grpc.RpcError as error:
                full = error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and rpc in _ASKED_AGAIN
                if not full or attempt == _TRIES - 1:
                    raise Refused(f"{rpc} at {address}: {error.code().name}: {error.details()}") from error
                time.sleep(_FIRST_WAIT_SECONDS * 2 ** attempt)
        raise AssertionError("unreachable")

    def wait_ready(self) -> None:
        """Until a worker answers."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            workers = self.call("ClusterService.Status", self.protocol.StatusRequest()).workers
            if any(worker.health == _READY for worker in workers):
                return
            if time.monotonic() > deadline:
                raise Refused(f"no worker of {self.address} is ready: {'; '.join(f'{w.address} {w.message}' for w in workers) or 'it has none'}")
            time.sleep(0.05)

    def identity(self) -> Identity:
        status = self.call("ClusterService.Status", self.protocol.StatusRequest())
        if not status.embedder_digest:
            raise Refused(f"the gateway at {self.address} runs without an embedder; start it with --embedder")
        return Identity(pathlib.PurePath(status.base_model).name, status.base_digest, status.embedder_digest)


@contextlib.contextmanager
def _process(command: list, log: pathlib.Path) -> Iterator[list[str]]:
    """A program of the product, ended with the block; the words of its first line, which says where it listens."""
    name = pathlib.Path(command[0]).name
    with open(log, "wb") as errors:
        child = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=errors)
    try:
        line, deadline = b"", time.monotonic() + _START_SECONDS
        while b"\n" not in line:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([child.stdout], [], [], left)[0]:
                raise Refused(f"{name} did not start within {_START_SECONDS:.0f} s")
            more = os.read(child.stdout.fileno(), 4096)
            if not more:
                child.wait(20)
                raise Refused(f"{name} ended with {child.returncode}: {log.read_text(errors='replace').strip()[-600:]}")
            line += more
        yield line.decode().split()
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()


@contextlib.contextmanager
def own_gateway(model: pathlib.Path, embedder: pathlib.Path, *, bin_folder: pathlib.Path | None = None, threads: int = 0,
                store: pathlib.Path | None = None, workers: str = _NOBODY) -> Iterator[Gateway]:
    """A gateway on free ports of loopback, ended with the block. `threads` embed; 0: as many as it thinks right."""
    program = binaries.find_binary("coterie-gateway", bin_folder)
    command = [program, f"--model={model}", f"--embedder={embedder}", f"--workers={workers}", "--listen=127.0.0.1:0",
               f"--admin-listen={'127.0.0.1:0' if store else ''}", "--http-listen=", "--metrics-port=-1", *([f"--embedder-threads={threads}"] if threads else []),
               *([f"--store={store}"] if store else [])]
    with tempfile.TemporaryDirectory(prefix="coterie-experts-") as scratch, \
            _process(command, pathlib.Path(scratch) / "gateway.log") as words:
        gateway = Gateway(f"127.0.0.1:{words[1]}", f"127.0.0.1:{words[3]}" if store else "")  # listening PORT admin PORT …
        try:
            yield gateway
        finally:
            gateway.close()


@contextlib.contextmanager
def own_cluster(model: pathlib.Path, embedder: pathlib.Path, store: pathlib.Path, *, bin_folder: pathlib.Path | None = None,
                mode: str = "fast", threads: int = 0, adapter_slots: int = 16) -> Iterator[Gateway]:
    """A gateway and a worker of numerics `mode` over `store`, ready to score; ended with the block. 0 threads: one a core."""
    program = binaries.find_binary("coterie-worker", bin_folder)
    command = [program, f"--model={model}", f"--store={store}", "--listen=127.0.0.1:0", "--metrics-port=-1", f"--mode={mode}",
               f"--adapter-slots={adapter_slots}", *([f"--threads={threads}"] if threads else [])]
    with tempfile.TemporaryDirectory(prefix="coterie-experts-") as scratch, \
            _process(command, pathlib.Path(scratch) / "worker.log") as words, \
            own_gateway(model, embedder, bin_folder=bin_folder, store=store, workers=words[1]) as gateway:
        gateway.wait_ready()
        yield gateway


@contextlib.contextmanager
def gateway_at(address: str | None, *, model: pathlib.Path | None = None, embedder: pathlib.Path | None = None,
               bin_folder: pathlib.Path | None = None, threads: int = 0) -> Iterator[Gateway]:
    """The gateway at `address`, or one of our own when there is none."""
    if not address:
        with own_gateway(binaries.find_base(model), binaries.find_embedder(embedder), bin_folder=bin_folder, threads=threads) as own:
            yield own
        return
    gateway = Gateway(address)
    try:
        yield gateway
    finally:
        gateway.close()
