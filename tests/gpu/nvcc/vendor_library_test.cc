// The real cuBLASLt, as far as it goes without a GPU: it has every function that we call, and takes the
// attributes that vendor_library.h has written out.
#include "kernels/cuda/vendor_library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace coterie::cuda {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

TEST(VendorLibraryTest, HasEveryFunctionAndTakesEveryAttribute) {
  const StatusOr<VendorLibrary> library = VendorLibrary::Open();
  if (absl::IsNotFound(library.status())) {
    EXPECT_THAT(ToStd(library.status().message()), HasSubstr("LD_LIBRARY_PATH"));
    GTEST_SKIP() << "this machine has no cuBLASLt: " << library.status().message();
  }
  ASSERT_TRUE(library.ok()) << library.status();
  const VendorLibrary& f = *library;
  EXPECT_THAT(f.Version(), MatchesRegex("1[23]\\.[0-9]+\\.[0-9]+"));
  EXPECT_EQ(f.Check(VendorLibrary::kNotSupported, "a test").message(),
            "cuBLASLt: a test gave CUBLAS_STATUS_NOT_SUPPORTED");

  void *description = nullptr, *layout = nullptr, *preference = nullptr;
  ASSERT_EQ(f.description_create(&description, VendorLibrary::kCompute32F, VendorLibrary::kReal32F), 0);
  const int transposed = VendorLibrary::kOpTransposed;
  EXPECT_EQ(
      f.description_set(description, VendorLibrary::kDescriptionTransposeA, &transposed, sizeof transposed),
      0);
  ASSERT_EQ(f.layout_create(&layout, VendorLibrary::kRealBf16, 64, 1, 64), 0);
  const uint64_t columns = 77;
  EXPECT_EQ(f.layout_set(layout, VendorLibrary::kLayoutColumns, &columns, sizeof columns), 0);
  ASSERT_EQ(f.preference_create(&preference), 0);
  const size_t bytes = size_t{32} << 20;
  EXPECT_EQ(f.preference_set(preference, VendorLibrary::kPreferWorkspaceBytes, &bytes, sizeof bytes), 0);
  for (const int attribute :
       {VendorLibrary::kPreferReductions, VendorLibrary::kPreferAlignmentA, VendorLibrary::kPreferAlignmentB,
        VendorLibrary::kPreferAlignmentC, VendorLibrary::kPreferAlignmentD}) {
    const uint32_t value = attribute == VendorLibrary::kPreferReductions ? VendorLibrary::kNoReduction : 16;
    EXPECT_EQ(f.preference_set(preference, attribute, &value, sizeof value), 0) << attribute;
  }
  EXPECT_EQ(f.description_destroy(description), 0);
  EXPECT_EQ(f.layout_destroy(layout), 0);
  EXPECT_EQ(f.preference_destroy(preference), 0);
}

}  // namespace
}  // namespace coterie::cuda
