#include "model/store/prototypes.h"

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/model/store/store_testing.h"

namespace coterie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

StatusOr<Prototypes> Parse(std::string_view file, PrototypeLimits limits = {}) {
  return ParsePrototypes({reinterpret_cast<const uint8_t*>(file.data()), file.size()}, "p", limits);
}

std::string FileRefusal(std::string_view file, PrototypeLimits limits = {}) {
  const Status status = Parse(file, limits).status();
  EXPECT_FALSE(status.ok());
  return std::string(ToStd(status.message()));
}

TEST(PrototypesTest, ReadsRowsAndTheEmbeddersName) {
  const auto file =
      SafetensorsOf("prototypes", {2, 2}, {1, 0, 0.6f, 0.8f}, R"({"embedder":"all-MiniLM-L6-v2"})");
  const Prototypes prototypes = Parse(file).value();
  EXPECT_EQ(prototypes.n, 2u);
  EXPECT_EQ(prototypes.dim, 2u);
  EXPECT_THAT(prototypes.values, ElementsAre(1, 0, 0.6f, 0.8f));
  EXPECT_EQ(prototypes.embedder, "all-MiniLM-L6-v2");
}

TEST(PrototypesTest, RowsMustBeFiniteAndOfUnitNorm) {
  EXPECT_EQ(FileRefusal(SafetensorsOf("prototypes", {2, 2}, {1, 0, 0.6f, 0.9f})),
            "p: prototype 1 has norm 1.08167, want 1 within 0.001");
  EXPECT_EQ(FileRefusal(SafetensorsOf("prototypes", {1, 2}, {1, NAN})),
            "p: prototype 0 has value nan at 1, want finite numbers");
  EXPECT_THAT(FileRefusal(SafetensorsOf("prototypes", {1, 2}, {INFINITY, 0})), HasSubstr("value inf at 0"));
  EXPECT_TRUE(Parse(SafetensorsOf("prototypes", {1, 2}, {1.0005f, 0})).ok());
}

TEST(PrototypesTest, TheTensorMustBeTheOneExpected) {
  EXPECT_EQ(FileRefusal(SafetensorsOf("centroids", {1, 2}, {1, 0})),
            "p must hold one tensor, prototypes [n, dim] F32; it holds 1");
  EXPECT_EQ(FileRefusal(SafetensorsOf("prototypes", {2}, {1, 0})),
            "p: tensor prototypes has type F32 and 1 dimensions, want F32 [n, dim]");
  EXPECT_EQ(FileRefusal(SafetensorsOf("prototypes", {0, 2}, {})),
            "p has 0 prototypes, the limits are 1 and 1024");
  EXPECT_EQ(FileRefusal(SafetensorsOf("prototypes", {1, 0}, {})),
            "p has prototypes of dimension 0, the limits are 1 and 8192");
}

TEST(PrototypesTest, SizesAreBounded) {
  EXPECT_EQ(FileRefusal(SafetensorsOf("prototypes", {3, 1}, {1, 1, 1}), {.max_prototypes = 2}),
            "p has 3 prototypes, the limits are 1 and 2");
  EXPECT_EQ(FileRefusal(SafetensorsOf("prototypes", {1, 3}, {1, 0, 0}), {.max_dim = 2}),
            "p has prototypes of dimension 3, the limits are 1 and 2");
  EXPECT_THAT(FileRefusal(SafetensorsOf("prototypes", {1, 3}, {1, 0, 0}), {.max_bytes = 50}),
              HasSubstr("limit is 50"));
}

TEST(PrototypesTest, EveryTruncationIsRefused) {
  const auto file = SafetensorsOf("prototypes", {2, 2}, {1, 0, 0.6f, 0.8f});
  for (size_t n = 0; n < file.size(); ++n) EXPECT_FALSE(Parse(file.substr(0, n)).ok()) << n;
}

}  // namespace
}  // namespace coterie
