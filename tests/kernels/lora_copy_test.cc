#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <tuple>

#include "common/digest.h"
#include "kernels/cpu/lora_adapter.h"
#include "tests/kernels/op_testing.h"

// An adapter taken over from the bytes of one that was packed before is the very same to every step.
namespace coterie::testing {
namespace {

struct ModuleShape {
  LoraModule module;
  int n_in;
  int n_out;
};
// Every module has whole blocks of 32 inputs, or none has.
std::vector<ModuleShape> ModuleShapes(int hidden, int ffn) {
  return {{LoraModule::kQ, hidden, hidden}, {LoraModule::kK, hidden, 24},     {LoraModule::kV, hidden, 24},
          {LoraModule::kO, hidden, hidden}, {LoraModule::kGate, hidden, ffn}, {LoraModule::kUp, hidden, ffn},
          {LoraModule::kDown, ffn, hidden}};
}

constexpr DType kFloats[] = {DType::kF32, DType::kF16, DType::kBF16};

// Random modules of random layers, each of its own rank and types, some beside a base of floats.
struct RandomAdapter {
  explicit RandomAdapter(Random* random) {
    const bool blocks = random->Int(0, 3) > 0;
    const auto shapes = blocks ? ModuleShapes(64, 96) : ModuleShapes(40, 72);
    for (int layer = 0; layer < 4; ++layer) {
      for (const ModuleShape& shape : shapes) {
        if (random->Int(0, 2) == 0) continue;
        const int rank = random->Int(1, 40);
        matrices.emplace_back(kFloats[random->Int(0, 2)], rank, shape.n_in, random);
        matrices.emplace_back(kFloats[random->Int(0, 2)], shape.n_out, rank, random);
        HostLora pair;
        pair.scale = random->Normal();
        pair.layer = layer;
        pair.module = shape.module;
        pair.quantise = random->Int(0, 3) > 0;
        pairs.push_back(pair);
      }
    }
    for (size_t i = 0; i < pairs.size(); ++i) {
      pairs[i].a = matrices[2 * i].host;
      pairs[i].b = matrices[2 * i + 1].host;
    }
  }
  std::vector<HostLora> WithoutData() const {
    std::vector<HostLora> out = pairs;
    for (HostLora& pair : out) pair.a.data = pair.b.data = nullptr;
    return out;
  }

  std::deque<RandomMatrix> matrices;
  std::vector<HostLora> pairs;
};

// Where something stands in an adapter's memory; -1: nowhere.
int64_t Offset(const cpu::CpuAdapter& adapter, const uint8_t* at) {
  return at == nullptr ? -1 : at - adapter.weights().data();
}

// Everything that steps read of a matrix beside its bytes.
std::vector<int64_t> Describe(const cpu::CpuAdapter& adapter, const cpu::CpuMatrix* matrix) {
  if (matrix == nullptr) return {};
  std::vector<int64_t> out = {matrix->n_out(), matrix->n_in(), matrix->n_panels(), matrix->any_float()};
  for (const cpu::PanelSegment& segment : matrix->segments()) {
    out.insert(out.end(), {static_cast<int64_t>(segment.kind), segment.out_begin, segment.n_out,
                           Offset(adapter, segment.panels)});
  }
  return out;
}

void ExpectSame(const cpu::CpuAdapter& a, const cpu::CpuAdapter& b) {
  ASSERT_TRUE(std::ranges::equal(a.weights(), b.weights()));
  ASSERT_EQ(a.bytes(), b.bytes());
  for (size_t layer = 0; layer < 5; ++layer) {
    ASSERT_EQ(a.layer(layer) == nullptr, b.layer(layer) == nullptr);
    if (a.layer(layer) == nullptr) continue;
    for (size_t i = 0; i < cpu::kLoraInputCount; ++i) {
      const cpu::LoraInput &x = a.layer(layer)->inputs[i], &y = b.layer(layer)->inputs[i];
      EXPECT_EQ(std::tuple(x.rank, x.n_in, x.n_codes, x.n_blocks, Offset(a, x.panels)),
                std::tuple(y.rank, y.n_in, y.n_codes, y.n_blocks, Offset(b, y.panels)));
      EXPECT_EQ(Describe(a, x.matrix.get()), Describe(b, y.matrix.get()));
    }
    for (size_t i = 0; i < kLoraModuleCount; ++i) {
      const cpu::LoraB &x = a.layer(layer)->b[i], &y = b.layer(layer)->b[i];
      EXPECT_EQ(
          std::tuple(x.rank, x.n_out, x.scale, x.t_column, x.q_column, x.first_block, Offset(a, x.panels)),
          std::tuple(y.rank, y.n_out, y.scale, y.t_column, y.q_column, y.first_block, Offset(b, y.panels)));
      EXPECT_EQ(Describe(a, x.matrix.get()), Describe(b, y.matrix.get()));
    }
  }
}

TEST(LoraCopy, EqualsTheAdapterThatWasPacked) {
  Random random;
  for (int i = 0; i < 100; ++i) {
    const RandomAdapter adapter(&random);
    for (const bool eight_bits : {false, true}) {
      const auto packed = cpu::CpuAdapter::Pack(adapter.pairs, {.eight_bits = eight_bits});
      ASSERT_TRUE(packed.ok()) << packed.status();
      const auto copy =
          cpu::CpuAdapter::Copy(adapter.WithoutData(), {.eight_bits = eight_bits}, (*packed)->weights());
      ASSERT_TRUE(copy.ok()) << copy.status();
      ExpectSame(**packed, **copy);
      // Memory that held something else before makes no difference to the bytes that are kept.
      const auto again = cpu::CpuAdapter::Pack(adapter.pairs, {.eight_bits = eight_bits});
      ASSERT_TRUE(std::ranges::equal((*again)->weights(), (*packed)->weights()));
    }
  }
}

TEST(LoraCopy, RefusesAnyOtherNumberOfBytes) {
  Random random;
  RandomAdapter adapter(&random);
  while (adapter.pairs.empty()) adapter = RandomAdapter(&random);
  for (const bool eight_bits : {false, true}) {
    const auto packed = std::move(cpu::CpuAdapter::Pack(adapter.pairs, {.eight_bits = eight_bits})).value();
    std::vector<uint8_t> bytes(packed->weights().begin(), packed->weights().end());
    const auto code = [&](std::span<const uint8_t> weights) {
      return cpu::CpuAdapter::Copy(adapter.WithoutData(), {.eight_bits = eight_bits}, weights)
          .status()
          .code();
    };
    EXPECT_EQ(code(bytes), absl::StatusCode::kOk);
    EXPECT_EQ(code(std::span(bytes).first(bytes.size() - 1)), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(code({}), absl::StatusCode::kInvalidArgument);
    bytes.push_back(0);
    EXPECT_EQ(code(bytes), absl::StatusCode::kInvalidArgument);
  }
}

TEST(LoraCopy, RefusesPairsThatNoAdapterHas) {
  HostLora good;
  good.a.n_out = good.b.n_in = 4;
  good.a.n_in = 64;
  good.b.n_out = 32;
  const auto code = [&](const std::function<void(HostLora&)>& change) {
    HostLora pair = good;
    change(pair);
    return cpu::CpuAdapter::Copy({&pair, 1}, {.eight_bits = true}, {}).status().code();
  };
  const std::function<void(HostLora&)> changes[] = {
      [](HostLora& p) { p.layer = -1; },
      [](HostLora& p) { p.layer = 1 << 20; },
      [](HostLora& p) { p.a.n_out = p.b.n_in = int64_t{1} << 40; },
      [](HostLora& p) { p.a.n_in = int64_t{1} << 62; },
      [](HostLora& p) { p.b.n_out = -1; },
      [](HostLora& p) { p.b.n_in = 5; },
      [](HostLora& p) { p.a.dtype = DType::kQ4_K; },
  };
  for (const auto& change : changes) EXPECT_EQ(code(change), absl::StatusCode::kInvalidArgument);
}

// Weights that are the same in every run: not those of RandomMatrix.
TEST(LoraCopy, ALayoutKeepsItsBytes) {
  std::vector<float> a(20 * 64), b(24 * 20);
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50) / 64;
  for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(static_cast<int>(i * 53 % 97) - 48) / 32;
  HostLora pair;
  pair.a = {DType::kF32, 20, 64, reinterpret_cast<const uint8_t*>(a.data()), {}};
  pair.b = {DType::kF32, 24, 20, reinterpret_cast<const uint8_t*>(b.data()), {}};
  pair.scale = 2;
  for (const auto& [mode, digest] :
       {std::pair(NumericsMode::kFast, "39a50c022e78"), std::pair(NumericsMode::kExact, "76f80537aea1")}) {
    ForEveryBackend(mode, [&, digest = digest](Backend& backend) {
      const auto packed = std::move(backend.PackAdapter({&pair, 1})).value();
      EXPECT_EQ(Sha256({reinterpret_cast<const char*>(packed->weights().data()), packed->bytes()}).Short(),
                digest)
          << "packed bytes have changed: raise the number in CpuBackend::adapter_layout, then this digest";
    });
  }
}

}  // namespace
}  // namespace coterie::testing
