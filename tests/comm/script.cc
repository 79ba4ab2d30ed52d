#include "tests/comm/script.h"

#include <algorithm>
#include <cstring>

namespace coterie::comm_testing {
namespace {

// Small whole numbers: their sums have no rounding.
float Value(int rank, size_t i) { return static_cast<float>((i * 7 + static_cast<size_t>(rank)) % 100); }

Status Wrong(const char* call, size_t i) {
  return absl::InternalError(absl::StrCat(call, " came out wrong at value ", i));
}

Status SumOf(Communicator* member, size_t count, const CallOptions& call, const Allocator& allocate) {
  const std::shared_ptr<std::byte> memory = allocate(count * sizeof(float));
  auto* data = reinterpret_cast<float*>(memory.get());
  for (size_t i = 0; i < count; ++i) data[i] = Value(member->rank(), i);
  RETURN_IF_ERROR(member->AllReduce(data, data, count, ElementType::kFloat32, ReduceOp::kSum, call));
  for (size_t i = 0; i < count; ++i) {
    float sum = 0;
    for (int rank = 0; rank < member->size(); ++rank) sum += Value(rank, i);
    if (data[i] != sum) return Wrong("AllReduce", i);
  }
  return absl::OkStatus();
}

Status Gather(Communicator* member, size_t count, const CallOptions& call, const Allocator& allocate) {
  const std::shared_ptr<std::byte> rows = allocate(count * static_cast<size_t>(member->size()));
  std::byte* mine = rows.get() + count * static_cast<size_t>(member->rank());
  std::fill_n(mine, count, static_cast<std::byte>(member->rank() + 1));
  RETURN_IF_ERROR(member->AllGather(mine, rows.get(), count, ElementType::kUint8, call));
  for (size_t i = 0; i < count * static_cast<size_t>(member->size()); ++i) {
    if (rows.get()[i] != static_cast<std::byte>(i / count + 1)) return Wrong("AllGather", i);
  }
  return absl::OkStatus();
}

Status Hand(Communicator* member, int from, int to, size_t count, const CallOptions& call,
            const Allocator& allocate) {
  const std::shared_ptr<std::byte> data = allocate(count);
  if (member->rank() == from) {
    std::fill_n(data.get(), count, std::byte{42});
    return member->Send(data.get(), count, ElementType::kUint8, to, call);
  }
  if (member->rank() != to) return absl::OkStatus();
  RETURN_IF_ERROR(member->Recv(data.get(), count, ElementType::kUint8, from, call));
  const auto* wrong =
      std::find_if(data.get(), data.get() + count, [](std::byte b) { return b != std::byte{42}; });
  return wrong == data.get() + count ? absl::OkStatus()
                                     : Wrong("Recv", static_cast<size_t>(wrong - data.get()));
}

}  // namespace

Status RunScript(Communicator* member, const CallOptions& call, const Allocator& allocate) {
  RETURN_IF_ERROR(SumOf(member, 1, call, allocate));
  RETURN_IF_ERROR(SumOf(member, 30'001, call, allocate));
  RETURN_IF_ERROR(Gather(member, 9'999, call, allocate));
  const size_t count = 77'777;
  const std::shared_ptr<std::byte> text = allocate(count);
  if (member->rank() == 1 % member->size()) std::fill_n(text.get(), count, std::byte{7});
  RETURN_IF_ERROR(member->Broadcast(text.get(), count, ElementType::kUint8, 1 % member->size(), call));
  if (std::count(text.get(), text.get() + count, std::byte{7}) != static_cast<ptrdiff_t>(count)) {
    return Wrong("Broadcast", 0);
  }
  if (member->size() > 1) RETURN_IF_ERROR(Hand(member, 0, 1, 5'000, call, allocate));
  return Gather(member, 3, call, allocate);
}

}  // namespace coterie::comm_testing
