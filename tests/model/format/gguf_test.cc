#include "model/format/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/model/format/expect_refused.h"
#include "tests/model/format/gguf_writer.h"

namespace coterie {
namespace {

using testing::AsBytes;
using ::testing::ElementsAre;
using testing::GgufWriter;

Status ParseStatus(const std::string& bytes, const GgufLimits& limits = {}) {
  return GgufFile::Parse(AsBytes(bytes), "tiny.gguf", limits).status();
}

TEST(GgufTest, ReadsEveryKindOfMetadata) {
  const std::string bytes = GgufWriter()
                                .AddString("name", "coterie")
                                .AddU32("u32", 7)
                                .AddScalar("i8", GgufType::kI8, int8_t{-3})
                                .AddScalar("u64", GgufType::kU64, uint64_t{1} << 40)
                                .AddScalar("f64", GgufType::kF64, 0.25)
                                .AddF32("f32", 1.5f)
                                .AddBool("yes", true)
                                .AddStrings("words", {"a", "", "ccc"})
                                .AddArray<int16_t>("ints", GgufType::kI16, {1, -2})
                                .AddArray<float>("floats", GgufType::kF32, {0.5f})
                                .Bytes();
  const auto file = GgufFile::Parse(AsBytes(bytes), "tiny.gguf");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->GetString("name").value(), "coterie");
  EXPECT_EQ(file->GetInt("u32").value(), 7);
  EXPECT_EQ(file->GetInt("i8").value(), -3);
  EXPECT_EQ(file->GetInt("u64").value(), int64_t{1} << 40);
  EXPECT_EQ(file->GetFloat("f64").value(), 0.25);
  EXPECT_EQ(file->GetFloat("f32").value(), 1.5);
  EXPECT_EQ(file->GetFloat("u32").value(), 7.0);
  EXPECT_TRUE(file->GetBool("yes").value());
  EXPECT_THAT(file->GetStrings("words").value(), ElementsAre("a", "", "ccc"));
  EXPECT_THAT(file->GetInts("ints").value(), ElementsAre(1, -2));
  EXPECT_THAT(file->GetFloats("floats").value(), ElementsAre(0.5f));
  EXPECT_TRUE(file->IsArray("words").value());
  EXPECT_EQ(file->Keys().size(), 10u);
}

TEST(GgufTest, NamesKeyAndTypeWhenMetadataIsNotWhatWasAsked) {
  const std::string bytes = GgufWriter().AddString("name", "x").AddStrings("words", {"a"}).Bytes();
  const auto file = GgufFile::Parse(AsBytes(bytes), "tiny.gguf");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_REFUSED(file->GetInt("name").status(), absl::StatusCode::kInvalidArgument,
                 "tiny.gguf: metadata key \"name\" is string, expected an integer");
  EXPECT_REFUSED(file->GetInts("words").status(), absl::StatusCode::kInvalidArgument,
                 "\"words\" is array of string, expected array of integers");
  EXPECT_REFUSED(file->GetString("words").status(), absl::StatusCode::kInvalidArgument, "expected string");
  EXPECT_REFUSED(file->GetString("none").status(), absl::StatusCode::kNotFound, "no metadata key \"none\"");
}

TEST(GgufTest, GivesTensorsOutermostDimensionFirst) {
  const std::string bytes =
      GgufWriter().AddF32Tensor("a", {2, 3}, {0, 1, 2, 3, 4, 5}).AddF32Tensor("b", {1}, {9}).Bytes();
  const auto file = GgufFile::Parse(AsBytes(bytes), "tiny.gguf");
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->tensors().size(), 2u);
  const TensorView* a = file->Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_THAT(a->shape, ElementsAre(2, 3));
  EXPECT_EQ(a->dtype, DType::kF32);
  EXPECT_EQ(a->bytes.size(), 24u);
  float last;
  std::memcpy(&last, a->bytes.data() + 20, 4);
  EXPECT_EQ(last, 5.0f);
  float nine;
  std::memcpy(&nine, file->Find("b")->bytes.data(), 4);
  EXPECT_EQ(nine, 9.0f);
  EXPECT_EQ(file->Find("c"), nullptr);
}

TEST(GgufTest, HonoursTheAlignmentInTheMetadata) {
  GgufWriter writer;
  writer.alignment = 128;
  const std::string bytes = writer.AddU32("general.alignment", 128).AddF32Tensor("a", {1}, {3}).Bytes();
  const auto file = GgufFile::Parse(AsBytes(bytes), "tiny.gguf");
  ASSERT_TRUE(file.ok()) << file.status();
  float three;
  std::memcpy(&three, file->Find("a")->bytes.data(), 4);
  EXPECT_EQ(three, 3.0f);
}

TEST(GgufTest, RefusesWhatIsNotALittleEndianGgufOfVersion2Or3) {
  EXPECT_REFUSED(ParseStatus("PK\x03\x04rest of a zip"), absl::StatusCode::kInvalidArgument,
                 "tiny.gguf is a ZIP archive; unpack it first");
  EXPECT_REFUSED(ParseStatus(""), absl::StatusCode::kOutOfRange, "the magic needs 4 bytes");
  GgufWriter writer;
  writer.version = 1;
  EXPECT_REFUSED(ParseStatus(writer.Bytes()), absl::StatusCode::kUnimplemented, "GGUF version 1");
  writer.version = 0x03000000;
  EXPECT_REFUSED(ParseStatus(writer.Bytes()), absl::StatusCode::kUnimplemented, "big-endian");
}

TEST(GgufTest, RefusesCountsBeyondTheLimits) {
  GgufWriter writer;
  writer.extra_tensor_count = 1 << 20;
  EXPECT_REFUSED(ParseStatus(writer.Bytes()), absl::StatusCode::kInvalidArgument,
                 "tensor count is 1048576, the limit is 65536");
  writer.extra_tensor_count = 0;
  writer.extra_pair_count = -1;
  EXPECT_REFUSED(ParseStatus(writer.Bytes()), absl::StatusCode::kInvalidArgument,
                 "metadata count is 18446744073709551615");
  EXPECT_REFUSED(ParseStatus(GgufWriter().AddArrayHead("k", GgufType::kF64, uint64_t{1} << 61).Bytes()),
                 absl::StatusCode::kInvalidArgument, "array length of metadata key \"k\"");
  EXPECT_REFUSED(ParseStatus(GgufWriter().AddString("k", "long").Bytes(), {.max_string_bytes = 3}),
                 absl::StatusCode::kInvalidArgument, "string length of metadata key \"k\" is 4");
  EXPECT_REFUSED(ParseStatus(GgufWriter().AddString("key", "v").Bytes(), {.max_name_bytes = 2}),
                 absl::StatusCode::kInvalidArgument, "a metadata key length is 3, the limit is 2");
}

TEST(GgufTest, RefusesEveryTruncation) {
  const std::string whole = GgufWriter()
                                .AddString("name", "coterie")
                                .AddStrings("words", {"a", "bb"})
                                .AddF32Tensor("a", {8}, std::vector<float>(8, 1.0f))
                                .Bytes();
  ASSERT_TRUE(ParseStatus(whole).ok());
  for (size_t n = 0; n < whole.size(); ++n) {
    EXPECT_REFUSED(ParseStatus(whole.substr(0, n)), absl::StatusCode::kOutOfRange, "truncated");
  }
}

TEST(GgufTest, RefusesRepeatedNames) {
  EXPECT_REFUSED(ParseStatus(GgufWriter().AddU32("k", 1).AddU32("k", 2).Bytes()),
                 absl::StatusCode::kInvalidArgument, "metadata key \"k\" appears twice");
  EXPECT_REFUSED(ParseStatus(GgufWriter().AddF32Tensor("t", {1}, {1}).AddF32Tensor("t", {1}, {1}).Bytes()),
                 absl::StatusCode::kInvalidArgument, "tensor \"t\" appears twice");
}

TEST(GgufTest, RefusesUnknownValueTypesAndNestedArrays) {
  EXPECT_REFUSED(ParseStatus(GgufWriter().AddScalar("k", static_cast<GgufType>(13), uint32_t{0}).Bytes()),
                 absl::StatusCode::kInvalidArgument, "unknown value type 13");
  EXPECT_REFUSED(ParseStatus(GgufWriter().AddArrayHead("k", GgufType::kArray, 1).Bytes()),
                 absl::StatusCode::kUnimplemented, "array of arrays");
}

TEST(GgufTest, RefusesSplitFilesInMemoryAndOddAlignments) {
  EXPECT_REFUSED(ParseStatus(GgufWriter().AddScalar("split.count", GgufType::kU16, uint16_t{2}).Bytes()),
                 absl::StatusCode::kUnimplemented, "split.count is 2");
  EXPECT_REFUSED(ParseStatus(GgufWriter().AddScalar("split.count", GgufType::kI32, int32_t{-1}).Bytes()),
                 absl::StatusCode::kInvalidArgument, "split.count is -1, the limit is 256");
  for (const uint32_t alignment : {0u, 24u, 1u << 21}) {
    EXPECT_REFUSED(ParseStatus(GgufWriter().AddU32("general.alignment", alignment).Bytes()),
                   absl::StatusCode::kInvalidArgument, "expected a power of two up to 1048576");
  }
}

TEST(GgufTest, RefusesTensorTypesByName) {
  EXPECT_REFUSED(ParseStatus(GgufWriter().AddTensorInfo("t", 10, {256}, 0).Bytes()),
                 absl::StatusCode::kUnimplemented, "tensor \"t\" has type Q2_K, supported are F32");
  EXPECT_REFUSED(ParseStatus(GgufWriter().AddTensorInfo("t", 4, {256}, 0).Bytes()),
                 absl::StatusCode::kUnimplemented, "unknown type 4");
}

TEST(GgufTest, RefusesHostileTensorShapesAndPlaces) {
  const auto with = [](uint32_t type, std::vector<int64_t> shape, uint64_t offset) {
    return ParseStatus(GgufWriter()
                           .AddF32Tensor("a", {16}, std::vector<float>(16))
                           .AddTensorInfo("t", type, shape, offset)
                           .Bytes());
  };
  EXPECT_REFUSED(with(0, {0}, 0), absl::StatusCode::kInvalidArgument, "dimension 0 is 0");
  EXPECT_REFUSED(with(0, {-1}, 0), absl::StatusCode::kInvalidArgument, "dimension 0 is 18446744073709551615");
  EXPECT_REFUSED(with(0, {1, 1, 1, 1, 1}, 0), absl::StatusCode::kInvalidArgument,
                 "dimension count of tensor \"t\" is 5, the limit is 4");
  EXPECT_REFUSED(with(0, {int64_t{1} << 40, int64_t{1} << 40}, 0), absl::StatusCode::kInvalidArgument,
                 "elements");
  EXPECT_REFUSED(with(0, {int64_t{1} << 61}, 0), absl::StatusCode::kInvalidArgument, "overflows");
  EXPECT_REFUSED(with(3, {33}, 0), absl::StatusCode::kInvalidArgument,
                 "last dimension 33 is not a multiple of 32, the block of Q4_1");
  EXPECT_REFUSED(with(0, {1}, 4), absl::StatusCode::kInvalidArgument, "offset 4 is not a multiple");
  EXPECT_REFUSED(with(0, {1}, 64), absl::StatusCode::kOutOfRange, "tensor \"t\" needs 4 bytes at offset 64");
  EXPECT_REFUSED(with(0, {1}, ~uint64_t{31}), absl::StatusCode::kOutOfRange, "truncated");
  EXPECT_REFUSED(with(0, {1}, 32), absl::StatusCode::kInvalidArgument, "overlap");
}

TEST(GgufTest, EscapesHostileNamesInMessages) {
  EXPECT_REFUSED(ParseStatus(GgufWriter().AddTensorInfo("\x1b[31m\n", 10, {256}, 0).Bytes()),
                 absl::StatusCode::kUnimplemented, "\"\\x1b[31m\\n\"");
}

}  // namespace
}  // namespace coterie
