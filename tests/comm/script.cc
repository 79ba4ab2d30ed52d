#include "tests/comm/script.h"

#include <algorithm>
#include <vector>

namespace coterie::comm_testing {
namespace {

// Small whole numbers: their sums have no rounding.
float Value(int rank, size_t i) { return static_cast<float>((i * 7 + static_cast<size_t>(rank)) % 100); }

Status Wrong(const char* call, size_t i) {
  return absl::InternalError(absl::StrCat(call, " came out wrong at value ", i));
}

Status SumOf(Communicator* member, size_t count, const CallOptions& call, const Allocator& allocate) {
  const std::shared_ptr<Buffer> memory = allocate(count * sizeof(float));
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = Value(member->rank(), i);
  memory->Write(values);
  RETURN_IF_ERROR(
      member->AllReduce(memory->data(), memory->data(), count, ElementType::kFloat32, ReduceOp::kSum, call));
  values = memory->Values<float>(count);
  for (size_t i = 0; i < count; ++i) {
    float sum = 0;
    for (int rank = 0; rank < member->size(); ++rank) sum += Value(rank, i);
    if (values[i] != sum) return Wrong("AllReduce", i);
  }
  return absl::OkStatus();
}

Status Gather(Communicator* member, size_t count, const CallOptions& call, const Allocator& allocate) {
  const auto rank = static_cast<size_t>(member->rank());
  const size_t n_bytes = count * static_cast<size_t>(member->size());
  const std::shared_ptr<Buffer> rows = allocate(n_bytes);
  const std::vector<uint8_t> mine(count, static_cast<uint8_t>(rank + 1));
  rows->Write(count * rank, mine.data(), count);
  RETURN_IF_ERROR(
      member->AllGather(rows->data() + count * rank, rows->data(), count, ElementType::kUint8, call));
  const std::vector<uint8_t> all = rows->Values<uint8_t>(n_bytes);
  for (size_t i = 0; i < n_bytes; ++i) {
    if (all[i] != static_cast<uint8_t>(i / count + 1)) return Wrong("AllGather", i);
  }
  return absl::OkStatus();
}

// All bytes of a buffer are `value`.
Status ExpectAll(const char* call, Buffer* buffer, size_t count, uint8_t value) {
  const std::vector<uint8_t> bytes = buffer->Values<uint8_t>(count);
  const auto wrong = std::find_if(bytes.begin(), bytes.end(), [&](uint8_t b) { return b != value; });
  return wrong == bytes.end() ? absl::OkStatus() : Wrong(call, static_cast<size_t>(wrong - bytes.begin()));
}

Status Hand(Communicator* member, int from, int to, size_t count, const CallOptions& call,
            const Allocator& allocate) {
  const std::shared_ptr<Buffer> data = allocate(count);
  if (member->rank() == from) {
    data->Write(std::vector<uint8_t>(count, 42));
    return member->Send(data->data(), count, ElementType::kUint8, to, call);
  }
  if (member->rank() != to) return absl::OkStatus();
  RETURN_IF_ERROR(member->Recv(data->data(), count, ElementType::kUint8, from, call));
  return ExpectAll("Recv", data.get(), count, 42);
}

}  // namespace

Status RunScript(Communicator* member, const CallOptions& call, const Allocator& allocate) {
  RETURN_IF_ERROR(SumOf(member, 1, call, allocate));
  RETURN_IF_ERROR(SumOf(member, 30'001, call, allocate));
  RETURN_IF_ERROR(Gather(member, 9'999, call, allocate));
  const size_t count = 77'777;
  const std::shared_ptr<Buffer> text = allocate(count);
  const int root = 1 % member->size();
  if (member->rank() == root) text->Write(std::vector<uint8_t>(count, 7));
  RETURN_IF_ERROR(member->Broadcast(text->data(), count, ElementType::kUint8, root, call));
  RETURN_IF_ERROR(ExpectAll("Broadcast", text.get(), count, 7));
  if (member->size() > 1) RETURN_IF_ERROR(Hand(member, 0, 1, 5'000, call, allocate));
  return Gather(member, 3, call, allocate);
}

}  // namespace coterie::comm_testing
