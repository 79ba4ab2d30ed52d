// Every barrier of the products' kernels is needed, and these tests would miss it.
#include "dropped_barriers.h"
#include "lora_step.h"

namespace coterie::cuda {
namespace {

class DroppedBarriersTest : public LoraStepTest {
 protected:
  // A product of `rows` rows with adapters, each time into fresh memory.
  void ExpectEachIsMissed(DType dtype, int64_t n_in, int n_out, int rows, int n_unseen, int n_unraced) {
    testing::Random random;
    const std::vector<Part> parts = {{dtype, n_out}};
    const Weights w = MakeWeights(parts, n_in, WeightChoice::kAsStored, &random);
    MakeAdapters(3, n_in, parts, 24);
    RowAdapters adapters(static_cast<size_t>(rows));
    for (size_t row = 0; row < adapters.size(); ++row) {
      adapters[row] = {{static_cast<int>(row % 3), 1.0f}, {static_cast<int>((row + 1) % 3), 0.5f}};
    }
    const std::vector<uint16_t> x = Operand(rows, n_in);
    const uint16_t* const x_device = Device(x);
    const auto run = [&] {
      const Step step = MakeStep(adapters, rows, 2, n_in);
      const auto n = static_cast<size_t>(rows * n_out);
      auto* const y = DeviceOf<float>(n);
      LinearLora(x_device, rows, *w.matrix, nullptr, false, &step.work, site_, step.scratch, y, 4, stream_);
      std::vector<uint32_t> bits;
      for (const float value : Host(y, n)) bits.push_back(BitsOfFloat(value));
      for (const uint32_t counter : Host(step.scratch.progress, kLoraProgressWords)) bits.push_back(counter);
      return bits;
    };
    ExpectEachBarrierIsMissed(run, 10, n_unseen, n_unraced);
  }
};
INSTANTIATE_TEST_SUITE_P(Orders, DroppedBarriersTest, ::testing::Values(emulation::Order::kRandom),
                         OrderName);

// Of more strips than wait for their deltas at a time.
TEST_P(DroppedBarriersTest, OfSmallProductsWithAdapters) {
  ExpectEachIsMissed(DType::kBF16, 1200, 270, 12, 0, 0);
}
TEST_P(DroppedBarriersTest, OfSmallQuantisedProductsWithAdapters) {
  ExpectEachIsMissed(DType::kQ4_K, 1024, 270, 12, 0, 0);
}
TEST_P(DroppedBarriersTest, OfLargeProductsWithAdapters) {
  ExpectEachIsMissed(DType::kBF16, 1200, 100, 100, 0, 0);
}

}  // namespace
}  // namespace coterie::cuda
