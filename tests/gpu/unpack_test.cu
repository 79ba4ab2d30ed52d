// Weights that are unpacked to rows of bfloat16, against the file's own values.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cuda/fast_kernels.h"
#include "lora_step.h"

namespace coterie::cuda {
namespace {

using coterie::testing::kAllDTypes;

class CudaUnpackTest : public LoraStepTest {};
COTERIE_IN_ALL_ORDERS(CudaUnpackTest);

// Of random strips of a random matrix in each form: each value is the weight rounded once (and sums of a
// scaled code and a minimum within their own float32), what fills up strips and rows is zero, and nothing
// else is written.
TEST_P(CudaUnpackTest, EveryFormOfWeights) {
  testing::Random random;
  for (const DType dtype : kAllDTypes) {
    for (const WeightChoice choice : {WeightChoice::kAsStored, WeightChoice::kQ8_0, WeightChoice::kFp8}) {
      const bool lies_there = dtype == DType::kBF16 || dtype == DType::kF32;
      if (choice == WeightChoice::kAsStored ? lies_there : dtype != DType::kBF16) continue;
      const int block = BlockElements(dtype);
      const int64_t n_in = block == 1 ? Between(1, 600) : block * Between(1, block == 32 ? 20 : 4);
      const int n_out = Between(1, 150);
      SCOPED_TRACE(std::string(DTypeName(dtype)) + " choice " + std::to_string(static_cast<int>(choice)) +
                   " [" + std::to_string(n_out) + ", " + std::to_string(n_in) + "]");
      const Weights w = MakeWeights({{dtype, n_out}}, n_in, choice, &random);
      const WeightSegment& segment = w.matrix->segments()[0];
      const int64_t n_strips = Strips(n_out), pitch = UnpackedPitch(segment);
      const int first = Between(0, static_cast<int>(n_strips) - 1);
      const int n = Between(1, static_cast<int>(n_strips) - first);
      const auto n_values = static_cast<size_t>(n * kStripOutputs * pitch);
      constexpr size_t kGuard = 256;
      auto* const to = DeviceOf<uint16_t>(n_values + kGuard);
      UnpackStrips(segment, first, n, to, Between(1, 4), stream_);
      const std::vector<uint16_t> got = Host(to, n_values + kGuard);
      for (size_t i = 0; i < n_values; ++i) {
        const int64_t output = first * kStripOutputs + static_cast<int64_t>(i) / pitch;
        const int64_t k = static_cast<int64_t>(i) % pitch;
        const double value = Bf16ToFloat(got[i]);
        if (output >= n_out || k >= n_in) {
          ASSERT_EQ(value, 0) << output << ", " << k;
          continue;
        }
        const auto at = static_cast<size_t>(output * n_in + k);
        const double want = w.values[at];
        // Below the smallest normal number, steps are of one size.
        ASSERT_NEAR(value, want, std::fabs(want) * (0x1p-8 + 0x1p-22) + w.bounds[at] * 0x1p-22 + 0x1p-134)
            << output << ", " << k;
      }
      EXPECT_TRUE(std::all_of(got.begin() + static_cast<int64_t>(n_values), got.end(),
                              [](uint16_t bits) { return bits == 0xFFFF; }));
    }
  }
}

TEST_P(CudaUnpackTest, EachByteIsReadOnce) {
  if (!emulation::kIsEmulated) GTEST_SKIP() << "a real device counts no bytes";
  testing::Random random;
  for (const DType dtype : kAllDTypes) {
    if (dtype == DType::kBF16 || dtype == DType::kF32) continue;
    const Weights w =
        MakeWeights({{dtype, Between(1, 100)}}, 256 * Between(1, 4), WeightChoice::kAsStored, &random);
    const WeightSegment& segment = w.matrix->segments()[0];
    const int64_t n_strips = Strips(segment.n_out);
    auto* const to =
        DeviceOf<uint16_t>(static_cast<size_t>(n_strips * kStripOutputs * UnpackedPitch(segment)));
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    const auto before = emulation::CountsNow();
    UnpackStrips(segment, 0, n_strips, to, 4, stream_);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    const auto after = emulation::CountsNow();
    EXPECT_EQ(after.streamed_bytes - before.streamed_bytes,
              static_cast<uint64_t>(n_strips * StripBytes(segment.form, segment.n_in)))
        << DTypeName(dtype);
    EXPECT_EQ(after.kernels - before.kernels, 1u);
  }
}

TEST_P(CudaUnpackTest, ABiasIsWrittenOrAdded) {
  for (int i = 0; i < 8; ++i) {
    const int rows = Between(1, 300), n = Between(1, 600), pitch = n + Between(0, 40);
    const bool accumulate = Between(0, 1) == 1;
    const std::vector<float> bias = Normals(static_cast<size_t>(n));
    const std::vector<float> old = Normals(static_cast<size_t>(rows * pitch));
    auto* const y = Device(old);
    AddBias(Device(bias), rows, n, accumulate, y, pitch, stream_);
    const std::vector<float> got = Host(y, old.size());
    for (size_t at = 0; at < old.size(); ++at) {
      const size_t output = at % static_cast<size_t>(pitch);
      const float want = output >= static_cast<size_t>(n) ? old[at]
                         : accumulate                     ? old[at] + bias[output]
                                                          : bias[output];
      ASSERT_EQ(got[at], want) << at;
    }
  }
}

}  // namespace
}  // namespace coterie::cuda
