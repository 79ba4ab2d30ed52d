#include "kernels/comm/mesh_communicator.h"

#include <algorithm>
#include <cstring>

#include "kernels/comm/member_card.h"
#include "kernels/comm/reduce.h"

namespace coterie {
namespace {

// What is kept for the next call; more is given back.
constexpr size_t kKeptBytes = 16 << 20;

std::span<const std::byte> In(const void* data, size_t n_bytes) {
  return {static_cast<const std::byte*>(data), n_bytes};
}

void CopyBytes(void* to, const void* from, size_t n_bytes) {
  if (n_bytes > 0 && to != from) std::memcpy(to, from, n_bytes);
}

}  // namespace

MeshCommunicator::MeshCommunicator(CommunicatorOptions options, CommCapabilities capabilities,
                                   std::unique_ptr<Transport> transport)
    : Communicator(std::move(options)),
      capabilities_(capabilities),
      group_hash_(GroupHash(group(), this->options().members)),
      transport_(std::move(transport)),
      staging_(this->options().driver == nullptr
                   ? nullptr
                   : std::make_unique<DeviceStaging>(*this->options().driver, this->options().abort, rank(),
                                                     this->options().members)) {
  transfers_.reserve(static_cast<size_t>(size()));
  sources_.resize(static_cast<size_t>(size()));
}

MeshCommunicator::~MeshCommunicator() { Leave(Ended()); }

void MeshCommunicator::Leave(const Loss& why) {
  if (std::exchange(left_, true)) return;
  transport_->Leave(why);
  if (staging_ != nullptr) staging_->LetGo();
}

CommCapabilities MeshCommunicator::capabilities() const {
  CommCapabilities capabilities = capabilities_;
  capabilities.device_memory = staging_ != nullptr;
  return capabilities;
}

std::optional<Loss> MeshCommunicator::SayHello(MonotonicTime deadline) {
  const Call hello{.kind = CallKind::kHello, .timeout = options().form_timeout, .deadline = deadline};
  std::optional<Loss> loss = Run(hello);
  if (loss) Leave(*loss);
  return loss;
}

std::optional<Loss> MeshCommunicator::Run(const Call& call) {
  std::optional<Loss> loss = call.memory == MemoryKind::kDevice ? RunStaged(call) : RunKind(call);
  if (received_.capacity() > kKeptBytes) std::vector<std::byte>().swap(received_);
  return loss;
}

std::optional<Loss> MeshCommunicator::RunKind(const Call& call) {
  switch (call.kind) {
    case CallKind::kHello:
    case CallKind::kAllGather:
      return AllGatherBytes(call);
    case CallKind::kAllReduce:
      return call.bytes() <= kOneHopBytes ? AllReduceOneHop(call) : AllReduceTwoHops(call);
    case CallKind::kBroadcast:
      return BroadcastBytes(call);
    case CallKind::kSend:
      transfers_.push_back({.peer = call.peer, .receives = false, .out = In(call.input, call.bytes())});
      return Exchange(call, 0);
    case CallKind::kRecv:
      transfers_.push_back(
          {.peer = call.peer, .sends = false, .in = {static_cast<std::byte*>(call.output), call.bytes()}});
      return Exchange(call, 0);
  }
  return std::nullopt;
}

std::optional<Loss> MeshCommunicator::RunStaged(const Call& call) {
  const bool gives =
      call.kind != CallKind::kRecv && (call.kind != CallKind::kBroadcast || call.peer == rank());
  const bool gets =
      call.kind != CallKind::kSend && (call.kind != CallKind::kBroadcast || call.peer != rank());
  const size_t in_bytes = call.bytes();
  const size_t out_bytes =
      call.kind == CallKind::kAllGather ? in_bytes * static_cast<size_t>(size()) : in_bytes;
  const DeviceStaging::Wait wait{call.stream, call.timeout, call.deadline};
  if (std::optional<Loss> loss = staging_->Reserve(in_bytes + out_bytes)) return loss;
  std::byte* const in = staging_->data();
  std::byte* const out = in + in_bytes;
  Call on_host = call;
  on_host.memory = MemoryKind::kHost;
  on_host.input = in;
  // A broadcast has one buffer.
  on_host.output = call.kind == CallKind::kBroadcast && gives ? in : out;
  if (gives) {
    if (std::optional<Loss> loss = staging_->ToHost(in, call.input, in_bytes, wait)) return loss;
    Step("copied");
  }
  if (std::optional<Loss> loss = RunKind(on_host)) return loss;
  return gets ? staging_->ToDevice(call.output, out, out_bytes, wait) : std::nullopt;
}

std::optional<Loss> MeshCommunicator::Exchange(const Call& call, uint8_t phase) {
  MessageHeader header;
  header.version = kCommVersion;
  header.from = static_cast<uint16_t>(rank());
  header.group = group_hash_;
  header.epoch = epoch();
  header.count = call.count;
  // A Send and its Recv are one message: what it is, and to whom.
  const bool to_me = call.kind == CallKind::kRecv;
  header.call = static_cast<uint8_t>(to_me ? CallKind::kSend : call.kind);
  header.peer = static_cast<uint32_t>(to_me ? rank() : call.peer);
  header.type = static_cast<uint8_t>(call.type);
  header.op = static_cast<uint8_t>(call.op);
  header.phase = phase;
  Step("begin");
  std::optional<Loss> loss = transport_->Exchange(header, transfers_, {call.timeout, call.deadline});
  if (!loss) Step("end");
  transfers_.clear();
  return loss;
}

std::optional<Loss> MeshCommunicator::AllGatherBytes(const Call& call) {
  const size_t n_bytes = call.bytes();
  auto* output = static_cast<std::byte*>(call.output);
  for (int peer = 0; peer < size(); ++peer) {
    const auto row = static_cast<size_t>(peer) * n_bytes;
    if (peer == rank()) {
      CopyBytes(output + row, call.input, n_bytes);
    } else {
      transfers_.push_back({.peer = peer, .out = In(call.input, n_bytes), .in = {output + row, n_bytes}});
    }
  }
  return Exchange(call, 0);
}

std::optional<Loss> MeshCommunicator::AllReduceOneHop(const Call& call) {
  const size_t n_bytes = call.bytes();
  received_.resize(static_cast<size_t>(size()) * n_bytes);
  for (int peer = 0; peer < size(); ++peer) {
    std::byte* row = received_.data() + static_cast<size_t>(peer) * n_bytes;
    sources_[static_cast<size_t>(peer)] = peer == rank() ? static_cast<const std::byte*>(call.input) : row;
    if (peer != rank()) {
      transfers_.push_back({.peer = peer, .out = In(call.input, n_bytes), .in = {row, n_bytes}});
    }
  }
  if (std::optional<Loss> loss = Exchange(call, 0)) return loss;
  Reduce(call.type, call.op, sources_, static_cast<std::byte*>(call.output), call.count);
  return std::nullopt;
}

std::optional<Loss> MeshCommunicator::AllReduceTwoHops(const Call& call) {
  const size_t element_bytes = ElementBytes(call.type);
  // Member r sums the values [begin(r), begin(r + 1)).
  const auto begin = [&](int r) {
    const auto n = static_cast<size_t>(size());
    return (call.count / n * static_cast<size_t>(r) + std::min(static_cast<size_t>(r), call.count % n)) *
           element_bytes;
  };
  const auto* input = static_cast<const std::byte*>(call.input);
  auto* output = static_cast<std::byte*>(call.output);
  const size_t mine = begin(rank());
  const size_t part_bytes = begin(rank() + 1) - mine;

  received_.resize(static_cast<size_t>(size()) * part_bytes);
  for (int peer = 0; peer < size(); ++peer) {
    std::byte* row = received_.data() + static_cast<size_t>(peer) * part_bytes;
    sources_[static_cast<size_t>(peer)] = peer == rank() ? input + mine : row;
    if (peer == rank()) continue;
    transfers_.push_back({.peer = peer,
                          .out = In(input + begin(peer), begin(peer + 1) - begin(peer)),
                          .in = {row, part_bytes}});
  }
  if (std::optional<Loss> loss = Exchange(call, 0)) return loss;

  // From here on the output may overwrite the input: what others needed of it has been sent.
  Reduce(call.type, call.op, sources_, output + mine, part_bytes / element_bytes);
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    transfers_.push_back({.peer = peer,
                          .out = In(output + mine, part_bytes),
                          .in = {output + begin(peer), begin(peer + 1) - begin(peer)}});
  }
  return Exchange(call, 1);
}

std::optional<Loss> MeshCommunicator::BroadcastBytes(const Call& call) {
  if (rank() != call.peer) {
    transfers_.push_back(
        {.peer = call.peer, .sends = false, .in = {static_cast<std::byte*>(call.output), call.bytes()}});
  } else {
    for (int peer = 0; peer < size(); ++peer) {
      if (peer == rank()) continue;
      transfers_.push_back({.peer = peer, .receives = false, .out = In(call.input, call.bytes())});
    }
  }
  return Exchange(call, 0);
}

}  // namespace coterie
