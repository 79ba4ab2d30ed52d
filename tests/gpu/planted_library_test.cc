// Callers of cuBLASLt that hand it memory, alignment or objects that it must not be given: the emulation's
// stand-in finds each, and is silent about the same call without the fault.
#include <gtest/gtest.h>

#include <string>

#include "control.h"
#include "kernels/cuda/vendor_product.h"
#include "tests/gpu/planted_faults.h"

namespace coterie::cuda {
namespace {

class PlantedLibraryDeathTest : public PlantedTest {
 protected:
  static constexpr int64_t kM = 12, kN = 20, kK = 16;
  static constexpr size_t kWorkspaceBytes = size_t{2} << 20;

  void SetUp() override {
    PlantedTest::SetUp();
    handle_ = *VendorHandle::Open();
    VendorProduct::Shape shape;
    shape.n = shape.y_pitch = kN;
    shape.k = shape.w_pitch = shape.x_pitch = kK;
    shape.float_y = true;
    shape.y_alignment = 16;
    product_ = *VendorProduct::Create(handle_.get(), shape);
    algorithm_ = product_->Propose(Terms(true))->front();
    x_ = Bytes(kM * kK * 2);
    w_ = Bytes(kN * kK * 2);
    y_ = Bytes(kM * kN * 4);
    workspace_ = Bytes(kWorkspaceBytes);
  }
  static VendorProduct::Terms Terms(bool one_pass) {
    VendorProduct::Terms terms;
    terms.m = kM;
    terms.workspace_bytes = kWorkspaceBytes;
    terms.one_pass = one_pass;
    return terms;
  }
  static void* Behind(void* at, size_t bytes) { return static_cast<char*>(at) + bytes; }
  Status Run(const void* x, const void* w, void* y, void* workspace) {
    return product_->Run(algorithm_, kM, x, w, false, y, workspace, kWorkspaceBytes, stream_);
  }

  std::unique_ptr<VendorHandle> handle_;
  std::unique_ptr<VendorProduct> product_;
  VendorLibrary::Proposal algorithm_;
  void *x_ = nullptr, *w_ = nullptr, *y_ = nullptr, *workspace_ = nullptr;
};

TEST_F(PlantedLibraryDeathTest, TheSameCallsWithoutAFaultAreSilent) {
  EXPECT_TRUE(Run(x_, w_, y_, workspace_).ok());
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
}
TEST_F(PlantedLibraryDeathTest, MemoryThatIsTooSmall) {
  EXPECT_DEATH((void)Run(Behind(x_, 32), w_, y_, workspace_), "B is no device memory of 384 bytes");
  EXPECT_DEATH((void)Run(x_, y_, y_, Behind(workspace_, 256)), "its workspace is no device memory");
}
TEST_F(PlantedLibraryDeathTest, MemoryOfTheHost) {
  float on_host[kM * kN];
  EXPECT_DEATH((void)Run(x_, w_, on_host, workspace_), "D is no device memory");
}
TEST_F(PlantedLibraryDeathTest, LessAlignmentThanWasSaid) {
  void* const y = Bytes(kM * kN * 4 + 16);
  EXPECT_TRUE(Run(x_, w_, Behind(y, 16), workspace_).ok());
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_DEATH((void)Run(x_, w_, Behind(y, 8), workspace_), "D is not aligned to the 16 bytes");
}
TEST_F(PlantedLibraryDeathTest, AWorkspaceThatOthersUse) {
  const VendorLibrary::Proposal without = product_->Propose(Terms(true))->back();
  EXPECT_DEATH((void)product_->Run(without, kM, x_, w_, false, y_, y_, 640, stream_),
               "its workspace overlaps D");
}
TEST_F(PlantedLibraryDeathTest, AResultThatIsAnOperand) {
  void* const both = Bytes(kM * kN * 4);
  EXPECT_DEATH((void)Run(both, w_, both, workspace_), "D overlaps B");
}
TEST_F(PlantedLibraryDeathTest, MemoryThatIsFreedBeforeTheStreamComesToIt) {
  const auto run = [&] {
    void* early = nullptr;
    cudaMallocAsync(&early, kM * kN * 4, stream_);
    cudaFreeAsync(early, stream_);
    (void)Run(x_, w_, early, workspace_);
    cudaStreamSynchronize(stream_);
  };
  EXPECT_DEATH(run(), std::string(kFreed) + "|data race");  // the thread sanitizer is faster
}
TEST_F(PlantedLibraryDeathTest, AnAlgorithmThatWasNotProposed) {
  algorithm_.algorithm[0] = 7;
  EXPECT_DEATH((void)Run(x_, w_, y_, workspace_), "an algorithm that it did not propose");
}
// Sums of K in several parts, which depend on the number of rows, are the first that it proposes.
TEST_F(PlantedLibraryDeathTest, SplitSumsAreProposedToWhoDoesNotRefuseThem) {
  EXPECT_EQ(product_->Propose(Terms(false))->size(), product_->Propose(Terms(true))->size() + 1);
}
// What it needs is refused in words, not by a fault.
TEST_F(PlantedLibraryDeathTest, AWorkspaceThatIsTooSmallIsAnError) {
  const Status status = product_->Run(algorithm_, kM, x_, w_, false, y_, workspace_, 16, stream_);
  EXPECT_EQ(status.message(), "cuBLASLt: a product of 12 x 20 x 16 gave CUBLAS_STATUS_INVALID_VALUE");
}

}  // namespace
}  // namespace coterie::cuda
