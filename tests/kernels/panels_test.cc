#include "kernels/cpu/panels.h"

#include <bit>
#include <cstring>
#include <limits>
#include <numeric>

#include "kernels/formats/dequantize.h"
#include "kernels/formats/quantize.h"
#include "tests/model/format/expect_refused.h"
#include "tests/testing/random_matrix.h"

// How matrices are packed: the same bytes on any number of threads, and of floats that are rounded meanwhile
// the bytes of what was rounded before.
namespace coterie::cpu {
namespace {

// A matrix and the file's rows rounded beforehand.
struct RoundedBefore {
  RoundedBefore(const HostMatrix& floats, DType type) : host(floats) {
    const int64_t row_bytes = RowBytes(floats.dtype, floats.n_in);
    bytes.resize(static_cast<size_t>(floats.n_out * RowBytes(type, floats.n_in)));
    std::vector<float> row(static_cast<size_t>(floats.n_in));
    for (int64_t r = 0; r < floats.n_out; ++r) {
      Dequantize(floats.dtype, floats.data + r * row_bytes, floats.n_in, row.data());
      const Status status = Quantize(type, row, bytes.data() + r * RowBytes(type, floats.n_in));
      EXPECT_TRUE(status.ok()) << status;
    }
    host.dtype = type;
    host.data = bytes.data();
    host.rounded_to.reset();
  }
  HostMatrix host;
  std::vector<uint8_t> bytes;
};

std::vector<std::string> PanelsOf(const CpuMatrix& matrix) {
  std::vector<std::string> all;
  for (const PanelSegment& segment : matrix.segments()) {
    all.push_back(absl::StrCat("kind ", static_cast<int>(segment.kind), ":"));
    all.back().append(reinterpret_cast<const char*>(segment.panels),
                      static_cast<size_t>(segment.n_panels() * PanelBytes(segment.kind, matrix.n_in())));
  }
  return all;
}

std::unique_ptr<CpuMatrix> PackParts(std::span<const HostMatrix> parts) {
  auto matrix = CpuMatrix::Pack(parts);
  EXPECT_TRUE(matrix.ok()) << matrix.status();
  return *std::move(matrix);
}

TEST(PanelsTest, FloatsRoundedWhilePackingGiveTheBytesOfRowsRoundedBefore) {
  testing::Random random;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const DType type : {DType::kQ8_0, DType::kQ4_1}) {
      for (const int64_t n_in : {32, 544, 1056}) {  // less than a piece, and one with a rest
        testing::RandomMatrix a(dtype, 37, n_in, &random), b(dtype, 20, n_in, &random);
        a.host.row_order.resize(37);
        std::iota(a.host.row_order.rbegin(), a.host.row_order.rend(), 0);
        for (HostMatrix* host : {&a.host, &b.host}) host->rounded_to = type;
        const RoundedBefore before[] = {{a.host, type}, {b.host, type}};
        const HostMatrix floats[] = {a.host, b.host};
        const HostMatrix rounded[] = {before[0].host, before[1].host};
        const auto matrix = PackParts(floats);
        EXPECT_TRUE(matrix->quantised());
        EXPECT_FALSE(matrix->any_float());
        EXPECT_EQ(PanelsOf(*matrix), PanelsOf(*PackParts(rounded)))
            << DTypeName(dtype) << " as " << DTypeName(type);
      }
    }
  }
}

TEST(PanelsTest, RoundedRowsStandBesideThoseOfTheirTypeAndOfOthers) {
  testing::Random random;
  testing::RandomMatrix floats(DType::kBF16, 21, 64, &random), file(DType::kQ8_0, 30, 64, &random),
      as_is(DType::kF16, 5, 64, &random);
  floats.host.rounded_to = DType::kQ8_0;
  const RoundedBefore before(floats.host, DType::kQ8_0);
  const HostMatrix now[] = {floats.host, file.host, as_is.host};
  const HostMatrix then[] = {before.host, file.host, as_is.host};
  const auto matrix = PackParts(now);
  EXPECT_EQ(matrix->segments().size(), 2u) << "rounded and stored Q8_0 share their panels";
  EXPECT_TRUE(matrix->any_float());
  EXPECT_EQ(PanelsOf(*matrix), PanelsOf(*PackParts(then)));
}

// Matrices of many megabytes are packed by several threads: every row must be where one thread puts it.
TEST(PanelsTest, LargeMatricesHoldEveryRowWhateverThreadsPackedThem) {
  testing::Random random;
  constexpr int64_t kIn = 1024, kOut = 9001;
  for (const DType dtype : {DType::kBF16, DType::kQ4_1, DType::kQ6_K}) {
    const testing::RandomMatrix some(dtype, 53, kIn, &random);
    HostMatrix large = some.host;  // its rows over and over
    large.n_out = kOut;
    std::vector<uint8_t> bytes;
    for (int64_t row = 0; row < kOut; ++row) {
      const uint8_t* from = some.bytes.data() + row % 53 * RowBytes(dtype, kIn);
      bytes.insert(bytes.end(), from, from + RowBytes(dtype, kIn));
    }
    large.data = bytes.data();
    const auto matrix = PackParts({&large, 1});
    ASSERT_GE(matrix->bytes(), size_t{5} << 20);
    std::vector<float> expected(kIn), row(kIn);
    for (int64_t r = 0; r < kOut; ++r) {
      Dequantize(dtype, some.bytes.data() + r % 53 * RowBytes(dtype, kIn), kIn, expected.data());
      matrix->DequantiseRow(r, row.data());
      ASSERT_EQ(row, expected) << DTypeName(dtype) << ", row " << r;
    }
  }
}

TEST(PanelsTest, WeightsThatCannotBeRoundedAreRefusedNamingTensorAndRow) {
  testing::Random random;
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity(), 9e6f}) {
    for (const int64_t row : {0, 4321}) {
      testing::RandomMatrix matrix(DType::kBF16, 5000, 544, &random);  // of several items
      matrix.host.name = "blk.7.ffn_up.weight";
      matrix.host.rounded_to = DType::kQ8_0;
      const auto bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(bad) >> 16);
      std::memcpy(matrix.bytes.data() + (row * 544 + 543) * 2, &bits, 2);
      const Status status = CpuMatrix::Pack({&matrix.host, 1}).status();
      EXPECT_REFUSED(status, kInvalid,
                     absl::StrCat("tensor \"blk.7.ffn_up.weight\", row ", row, ": a weight is "));
      matrix.host.rounded_to.reset();
      EXPECT_TRUE(CpuMatrix::Pack({&matrix.host, 1}).ok()) << "as they are, weights are not looked at";
    }
  }
}

TEST(PanelsTest, RoundingThatIsNoneIsRefused) {
  testing::Random random;
  testing::RandomMatrix matrix(DType::kQ4_0, 16, 64, &random);
  matrix.host.rounded_to = DType::kQ8_0;
  EXPECT_REFUSED(CpuMatrix::Pack({&matrix.host, 1}).status(), kInvalid, "cannot be rounded to Q8_0");
  testing::RandomMatrix floats(DType::kBF16, 16, 64, &random);
  floats.host.rounded_to = DType::kQ6_K;
  EXPECT_REFUSED(CpuMatrix::Pack({&floats.host, 1}).status(), kInvalid, "cannot be rounded to Q6_K");
  testing::RandomMatrix odd(DType::kBF16, 16, 48, &random);
  odd.host.rounded_to = DType::kQ8_0;
  EXPECT_REFUSED(CpuMatrix::Pack({&odd.host, 1}).status(), kInvalid, "inputs are not whole blocks");
}

}  // namespace
}  // namespace coterie::cpu
