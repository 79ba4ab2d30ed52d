#include <cmath>
#include <cstring>
#include <random>

#include "kernels/comm/reduce.h"
#include "kernels/formats/half.h"
#include "tests/comm/backend_test_base.h"
#include "tests/testing/seed.h"

// What every communicator must do, whatever carries its messages: results.
namespace coterie::comm_testing {
namespace {

constexpr ElementType kTypes[] = {ElementType::kFloat32, ElementType::kBFloat16, ElementType::kFloat16,
                                  ElementType::kInt32, ElementType::kUint8};

class CommConformanceTest : public BackendTestBase {
 protected:
  std::mt19937_64 random_{testing::TestSeed()};
};

// Any bits for integers; floats of many magnitudes, and now and then an infinity.
void FillRandomly(ElementType type, size_t count, std::mt19937_64* random, std::byte* out) {
  for (size_t i = 0; i < count; ++i) {
    const uint64_t bits = (*random)();
    // Five of the largest still have a float16 as their sum.
    float x = std::ldexp(static_cast<float>(static_cast<int64_t>(bits % 2001) - 1000),
                         static_cast<int>(bits >> 32) & 3);
    if (bits % 997 == 0) x = INFINITY;
    const uint16_t half = type == ElementType::kFloat16 ? FloatToHalf(x) : FloatToBf16(x);
    if (type == ElementType::kFloat32) std::memcpy(out + i * 4, &x, 4);
    if (type == ElementType::kInt32) std::memcpy(out + i * 4, &bits, 4);
    if (type == ElementType::kUint8) std::memcpy(out + i, &bits, 1);
    if (ElementBytes(type) == 2) std::memcpy(out + i * 2, &half, 2);
  }
}

double Load(ElementType type, const std::byte* data, size_t i) {
  uint16_t half = 0;
  int32_t integer = 0;
  float x = 0;
  switch (type) {
    case ElementType::kFloat32:
      std::memcpy(&x, data + i * 4, 4);
      return x;
    case ElementType::kInt32:
      std::memcpy(&integer, data + i * 4, 4);
      return integer;
    case ElementType::kUint8:
      return static_cast<double>(data[i]);
    default:
      std::memcpy(&half, data + i * 2, 2);
      return type == ElementType::kFloat16 ? HalfToFloat(half) : Bf16ToFloat(half);
  }
}

// The reduction of all inputs at i in float64, and by how much a result of `type` may differ from it: a
// rounding of the running sum for each member, of the largest sum that any order could meet.
void ExpectReduced(ElementType type, ReduceOp op, const std::vector<std::vector<std::byte>>& inputs, size_t i,
                   const std::byte* output) {
  double sum = 0, magnitude = 0, largest = -INFINITY;
  for (const auto& input : inputs) {
    const double x = Load(type, input.data(), i);
    sum += x;
    magnitude += std::fabs(x);
    largest = std::max(largest, x);
  }
  double expected = op == ReduceOp::kSum ? sum : largest;
  if (type == ElementType::kInt32) expected = static_cast<int32_t>(static_cast<int64_t>(expected));
  if (type == ElementType::kUint8) expected = static_cast<uint8_t>(static_cast<int64_t>(expected));
  const double got = Load(type, output, i);
  double step = 0;
  if (op == ReduceOp::kSum && type == ElementType::kFloat32) step = 0x1p-24;
  if (op == ReduceOp::kSum && type == ElementType::kBFloat16) step = 0x1p-8;
  if (op == ReduceOp::kSum && type == ElementType::kFloat16) step = 0x1p-11;
  if (std::isinf(expected) || got == expected) {
    ASSERT_EQ(got, expected) << "at " << i;
  } else {
    ASSERT_LE(std::fabs(got - expected), step * magnitude * static_cast<double>(inputs.size()))
        << "at " << i << ": " << got << " for " << expected;
  }
}

TEST_P(CommConformanceTest, AllReduceAgreesWithFloat64OnAllMembersAlike) {
  std::vector<size_t> counts = {0, 1, 3, 4'097, (1 << 20) / 4 + 5, (3 << 20) + 1};
  for (int i = 0; i < 6; ++i) counts.push_back(random_() % 20'000);
  uint64_t epoch = 0;
  for (int n_members : {1, 2, 3, 5}) {
    auto members = Form(backend_.get(), "g", ++epoch, n_members);
    ASSERT_FALSE(members.empty());
    for (size_t count : counts) {
      if (count > 1 << 20 && n_members != 3) continue;
      const ElementType type = kTypes[random_() % 5];
      const ReduceOp op = random_() % 4 == 0 ? ReduceOp::kMax : ReduceOp::kSum;
      const bool in_place = random_() % 2 == 0;
      SCOPED_TRACE(absl::StrCat(n_members, " members, ", count, " ", ElementName(type).data(), " in place ",
                                in_place));
      const size_t n_bytes = count * ElementBytes(type);
      std::vector<std::shared_ptr<Buffer>> inputs, outputs;
      std::vector<std::vector<std::byte>> originals;
      for (int rank = 0; rank < n_members; ++rank) {
        originals.emplace_back(n_bytes);
        FillRandomly(type, count, &random_, originals.back().data());
        inputs.push_back(backend_->Allocate(n_bytes));
        inputs.back()->Write(originals.back());
        outputs.push_back(in_place ? inputs.back() : backend_->Allocate(n_bytes));
      }
      OnThreads(n_members, [&](int rank) {
        const auto r = static_cast<size_t>(rank);
        EXPECT_EQ(members[r]->AllReduce(inputs[r]->data(), outputs[r]->data(), count, type, op,
                                        backend_->Call(rank, kLong)),
                  absl::OkStatus());
      });
      const std::vector<std::byte> result = outputs[0]->Values<std::byte>(n_bytes);
      for (size_t i = 0; i < count; i += 1 + count / 5'000) {
        ASSERT_NO_FATAL_FAILURE(ExpectReduced(type, op, originals, i, result.data()));
      }
      for (const auto& output : outputs) ASSERT_EQ(output->Values<std::byte>(n_bytes), result);
      if (!members[0]->capabilities().ascending_order || count == 0) continue;
      std::vector<const std::byte*> sources;
      sources.reserve(originals.size());
      for (const auto& original : originals) sources.push_back(original.data());
      std::vector<std::byte> ascending(n_bytes);
      Reduce(type, op, sources, ascending.data(), count);
      ASSERT_EQ(result, ascending) << "another order of sums";
    }
  }
}

TEST_P(CommConformanceTest, BytesArriveWhole) {
  const int n_members = 4;
  auto members = Form(backend_.get(), "g", 1, n_members);
  ASSERT_FALSE(members.empty());
  for (size_t count : {size_t{0}, size_t{1}, size_t{4'032}, size_t{4'033}, size_t{(2 << 20) + 3},
                       random_() % 9'000, random_() % 9'000}) {
    const ElementType type = kTypes[random_() % 5];
    const size_t n_bytes = count * ElementBytes(type);
    const int root = static_cast<int>(random_() % n_members);
    const int to = (root + 1 + static_cast<int>(random_() % (n_members - 1))) % n_members;
    SCOPED_TRACE(absl::StrCat(count, " ", ElementName(type).data(), " root ", root, " to ", to));
    std::vector<std::shared_ptr<Buffer>> rows, roots, hands;
    std::vector<std::byte> all_rows, of_root, handed;
    for (int rank = 0; rank < n_members; ++rank) {
      rows.push_back(backend_->Allocate(n_bytes * n_members));
      roots.push_back(backend_->Allocate(n_bytes));
      hands.push_back(backend_->Allocate(n_bytes));
      std::vector<std::byte> bytes(n_bytes);
      FillRandomly(type, count, &random_, bytes.data());
      rows.back()->Write(static_cast<size_t>(rank) * n_bytes, bytes.data(), n_bytes);
      all_rows.insert(all_rows.end(), bytes.begin(), bytes.end());
      FillRandomly(type, count, &random_, bytes.data());
      roots.back()->Write(bytes);
      if (rank == root) of_root = bytes;
      FillRandomly(type, count, &random_, bytes.data());
      hands.back()->Write(bytes);
      if (rank == root) handed = bytes;
    }
    OnThreads(n_members, [&](int rank) {
      const auto r = static_cast<size_t>(rank);
      const CallOptions call = backend_->Call(rank, kLong);
      EXPECT_EQ(members[r]->AllGather(rows[r]->data() + r * n_bytes, rows[r]->data(), count, type, call),
                absl::OkStatus());
      EXPECT_EQ(members[r]->Broadcast(roots[r]->data(), count, type, root, call), absl::OkStatus());
      if (rank == root) {
        EXPECT_EQ(members[r]->Send(hands[r]->data(), count, type, to, call), absl::OkStatus());
      }
      if (rank == to) {
        EXPECT_EQ(members[r]->Recv(hands[r]->data(), count, type, root, call), absl::OkStatus());
      }
    });
    for (size_t r = 0; r < n_members; ++r) {
      EXPECT_EQ(rows[r]->Values<std::byte>(n_bytes * n_members), all_rows);
      EXPECT_EQ(roots[r]->Values<std::byte>(n_bytes), of_root);
    }
    EXPECT_EQ(hands[static_cast<size_t>(to)]->Values<std::byte>(n_bytes), handed);
  }
}

TEST_P(CommConformanceTest, TwoGroupsOfTheSameMembersDoNotMix) {
  const int n_members = 3;
  auto first = Form(backend_.get(), "first", 1, n_members);
  auto second = Form(backend_.get(), "second", 1, n_members);
  ASSERT_FALSE(first.empty() || second.empty());
  OnThreads(2 * n_members, [&](int thread) {
    const bool is_first = thread < n_members;
    const int rank = thread % n_members;
    Communicator& member = *(is_first ? first : second)[static_cast<size_t>(rank)];
    const std::shared_ptr<Buffer> memory = backend_->Allocate(4 * 20'000);
    const CallOptions call = backend_->Call(thread, kLong);
    for (int turn = 0; turn < 20; ++turn) {
      const size_t count = static_cast<size_t>(1 + turn * 1'000);
      const int32_t value = is_first ? turn : -turn;
      memory->Write(std::vector<int32_t>(count, value));
      ASSERT_EQ(
          member.AllReduce(memory->data(), memory->data(), count, ElementType::kInt32, ReduceOp::kSum, call),
          absl::OkStatus());
      ASSERT_EQ(memory->Values<int32_t>(1, count - 1)[0], value * n_members);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Backends, CommConformanceTest, ::testing::ValuesIn(BackendNames()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace coterie::comm_testing
