#include "model/format/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/model/format/expect_refused.h"
#include "tests/model/format/gguf_writer.h"
#include "tests/model/format/safetensors_writer.h"
#include "tests/model/format/temp_folder.h"

namespace coterie {
namespace {

using testing::AsBytes;
using ::testing::ElementsAre;
using testing::SafetensorsBytes;
using testing::SafetensorsWriter;
using testing::TempFolder;

Status HeaderStatus(const std::string& bytes, const SafetensorsLimits& limits = {}) {
  return SafetensorsFile::Parse(AsBytes(bytes), "tiny.safetensors", limits).status();
}

Status HeaderStatus(std::string_view header, size_t data_bytes, const SafetensorsLimits& limits = {}) {
  return HeaderStatus(SafetensorsBytes(header, std::string(data_bytes, '\0')), limits);
}

TEST(SafetensorsTest, ReadsTensorsAndMetadata) {
  const std::string bytes = SafetensorsBytes(
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,1],"data_offsets":[2,10]},)"
      R"("a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]},"ids":{"dtype":"I64","shape":[1],"data_offsets":[10,18]},)"
      R"("none":{"dtype":"F16","shape":[0,4],"data_offsets":[18,18]}}   )",
      std::string(18, '\x01'));
  const auto file = SafetensorsFile::Parse(AsBytes(bytes), "tiny.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata().at("format"), "pt");
  ASSERT_EQ(file->tensors().size(), 3u);
  EXPECT_EQ(file->tensors()[0].name, "a");
  EXPECT_EQ(file->Find("a")->dtype, DType::kBF16);
  EXPECT_EQ(file->Find("a")->n_elements(), 1);
  EXPECT_THAT(file->Find("b")->shape, ElementsAre(2, 1));
  EXPECT_EQ(file->Find("b")->bytes.size(), 8u);
  EXPECT_EQ(file->Find("none")->bytes.size(), 0u);
  EXPECT_EQ(file->Find("ids"), nullptr);
  EXPECT_EQ(file->other_tensors().at("ids"), "I64");
  EXPECT_REFUSED(file->Get("ids").status(), absl::StatusCode::kUnimplemented,
                 "tensor \"ids\" has type I64, supported are F32, F16, BF16");
  EXPECT_REFUSED(file->Get("c").status(), absl::StatusCode::kNotFound, "tiny.safetensors: no tensor \"c\"");
}

TEST(SafetensorsTest, RefusesABadHeader) {
  EXPECT_REFUSED(HeaderStatus("1234"), absl::StatusCode::kOutOfRange, "the header length needs 8 bytes");
  EXPECT_REFUSED(HeaderStatus(std::string(8, '\xff')), absl::StatusCode::kInvalidArgument,
                 "header length is 18446744073709551615, the limit is 100000000");
  EXPECT_REFUSED(HeaderStatus(std::string("\x10\0\0\0\0\0\0\0{}", 10)), absl::StatusCode::kOutOfRange,
                 "the header needs 16 bytes at offset 8, the file has 10");
  EXPECT_REFUSED(HeaderStatus(" {}", 0), absl::StatusCode::kInvalidArgument, "does not start with '{'");
  EXPECT_REFUSED(HeaderStatus("", 0), absl::StatusCode::kInvalidArgument, "does not start with '{'");
  EXPECT_REFUSED(HeaderStatus("{]", 0), absl::StatusCode::kInvalidArgument, "header is not JSON");
  EXPECT_REFUSED(HeaderStatus("{} x", 0), absl::StatusCode::kInvalidArgument, "header is not JSON");
  EXPECT_REFUSED(HeaderStatus("{\"\xff\":{}}", 0), absl::StatusCode::kInvalidArgument, "UTF-8");
}

TEST(SafetensorsTest, RefusesAHeaderOfAnotherStructure) {
  const auto tensor = [](std::string_view fields) {
    return HeaderStatus("{\"t\":{" + std::string(fields) + "}}", 4);
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_REFUSED(tensor(R"("dtype":"F32","shape":[1])"), kInvalid,
                 "dtype, shape and data_offsets are not all there");
  EXPECT_REFUSED(tensor(R"("dtype":"F33")"), kInvalid, "tensor \"t\": unknown dtype \"F33\"");
  EXPECT_REFUSED(tensor(R"("dtype":7)"), kInvalid, "tensor \"t\": unexpected a number in field \"dtype\"");
  EXPECT_REFUSED(tensor(R"("shape":[[1]])"), kInvalid, "unexpected an array in field \"shape\"");
  EXPECT_REFUSED(tensor(R"("shape":[-1])"), kInvalid, "a negative number, -1");
  EXPECT_REFUSED(tensor(R"("shape":[1.5])"), kInvalid, "a fraction, 1.5");
  EXPECT_REFUSED(tensor(R"("shape":[18446744073709551615])"), kInvalid, "dimension 18446744073709551615");
  EXPECT_REFUSED(tensor(R"("shape":[1,1,1,1,1,1,1,1,1])"), kInvalid, "more than 8 dimensions");
  EXPECT_REFUSED(tensor(R"("data_offsets":[0,4,8])"), kInvalid, "more than two data_offsets");
  EXPECT_REFUSED(tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0])"), kInvalid,
                 "fewer than two data_offsets");
  EXPECT_REFUSED(tensor(R"("strides":[1])"), kInvalid, "unknown field \"strides\"");
  EXPECT_REFUSED(tensor(R"("shape":[1],"shape":[1])"), kInvalid, "key \"shape\" appears twice");
  EXPECT_REFUSED(HeaderStatus(R"({"t":3})", 0), kInvalid, "unexpected a number");
  EXPECT_REFUSED(HeaderStatus(R"({"__metadata__":{"a":{}}})", 0), kInvalid, "unexpected an object");
  EXPECT_REFUSED(HeaderStatus(R"({"__metadata__":{"a":1}})", 0), kInvalid, "unexpected a number");
  EXPECT_REFUSED(HeaderStatus(R"({"__metadata__":{"a":"xyz"}})", 0, {.max_metadata_bytes = 2}), kInvalid,
                 "__metadata__ has more than 2 bytes");
  EXPECT_REFUSED(HeaderStatus(R"({"t":null})", 0), kInvalid, "unexpected null");
}

TEST(SafetensorsTest, RefusesRepeatedAndTooManyNames) {
  const std::string twice =
      R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})";
  EXPECT_REFUSED(HeaderStatus(twice, 2), absl::StatusCode::kInvalidArgument, "key \"t\" appears twice");
  const std::string two =
      R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"u":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})";
  EXPECT_TRUE(HeaderStatus(two, 2).ok());
  EXPECT_REFUSED(HeaderStatus(two, 2, {.max_tensors = 1}), absl::StatusCode::kInvalidArgument,
                 "more than 1 tensors");
  EXPECT_REFUSED(HeaderStatus(R"({"long":{}})", 2, {.max_name_bytes = 3}), absl::StatusCode::kInvalidArgument,
                 "key \"long\" has 4 bytes, the limit is 3");
}

TEST(SafetensorsTest, RefusesOverlapHolesAndWrongSizes) {
  const auto at = [](std::string_view shape, std::string_view begin_end, size_t data_bytes) {
    return HeaderStatus(
        absl::StrCat(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"t":{"dtype":"F32","shape":)",
                     ToAbsl(shape), R"(,"data_offsets":)", ToAbsl(begin_end), "}}"),
        data_bytes);
  };
  EXPECT_TRUE(at("[2]", "[4,12]", 12).ok());
  EXPECT_REFUSED(at("[2]", "[3,11]", 11), absl::StatusCode::kInvalidArgument,
                 "begins at 3, expected 4: an overlap");
  EXPECT_REFUSED(at("[2]", "[5,13]", 13), absl::StatusCode::kInvalidArgument,
                 "begins at 5, expected 4: a hole");
  EXPECT_REFUSED(at("[2]", "[4,12]", 13), absl::StatusCode::kInvalidArgument, "a hole at the end");
  EXPECT_REFUSED(at("[2]", "[4,12]", 11), absl::StatusCode::kOutOfRange,
                 "ends at 12, it begins at 4 and the data has 11");
  EXPECT_REFUSED(at("[2]", "[4,3]", 12), absl::StatusCode::kOutOfRange, "ends at 3");
  EXPECT_REFUSED(at("[3]", "[4,12]", 12), absl::StatusCode::kInvalidArgument,
                 "tensor \"t\" of shape [3] and F32 has 8 bytes");
  EXPECT_REFUSED(at("[4611686018427387904,4]", "[4,12]", 12), absl::StatusCode::kInvalidArgument, "elements");
  EXPECT_REFUSED(at("[0,4611686018427387904,4]", "[4,4]", 4), absl::StatusCode::kInvalidArgument, "elements");
}

class ShardedSafetensorsTest : public ::testing::Test {
 protected:
  ShardedSafetensorsTest() {
    folder_.Write("m-1.safetensors", SafetensorsWriter().AddF32("a", {1}, {1}).Bytes());
    folder_.Write("m-2.safetensors", SafetensorsWriter().AddF32("b", {1}, {2}).AddF32("c", {1}, {3}).Bytes());
  }
  Status OpenWith(std::string_view weight_map) {
    folder_.Write("model.safetensors.index.json", "{\"weight_map\":" + std::string(weight_map) + "}");
    return SafetensorsFile::OpenFolder(folder_.path()).status();
  }
  TempFolder folder_;
};

TEST_F(ShardedSafetensorsTest, GathersTheTensorsOfAllShards) {
  ASSERT_TRUE(OpenWith(R"({"c":"m-2.safetensors","a":"m-1.safetensors","b":"m-2.safetensors"})").ok());
  const auto file = SafetensorsFile::OpenFolder(folder_.path());
  ASSERT_TRUE(file.ok()) << file.status();
  float three;
  std::memcpy(&three, file->Find("c")->bytes.data(), 4);
  EXPECT_EQ(three, 3.0f);
  EXPECT_EQ(file->tensors().size(), 3u);
}

TEST_F(ShardedSafetensorsTest, TakesAsManyTensorsAsLargeMixturesOfExpertsHave) {
  SafetensorsWriter writer;
  std::string map = "{";
  for (int i = 0; i < 40000; ++i) {
    writer.AddF32(absl::StrCat("t", i), {1}, {1});
    absl::StrAppend(&map, i == 0 ? "" : ",", "\"t", i, "\":\"many.safetensors\"");
  }
  folder_.Write("many.safetensors", writer.Bytes());
  const Status status = OpenWith(map + "}");
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(ShardedSafetensorsTest, RefusesAnIndexThatDisagreesWithItsShards) {
  EXPECT_REFUSED(OpenWith(R"({"a":"m-1.safetensors","b":"m-2.safetensors"})"),
                 absl::StatusCode::kInvalidArgument,
                 "tensor \"c\" stands in m-2.safetensors, but weight_map says otherwise");
  EXPECT_REFUSED(OpenWith(R"({"a":"m-1.safetensors","d":"m-1.safetensors"})"),
                 absl::StatusCode::kInvalidArgument,
                 "tensor \"d\" stands in m-1.safetensors, which lacks it");
  EXPECT_REFUSED(OpenWith(R"({"a":"m-3.safetensors"})"), absl::StatusCode::kNotFound, "m-3.safetensors");
}

TEST_F(ShardedSafetensorsTest, RefusesShardsOutsideTheFolder) {
  for (const char* name : {"\"../m-1.safetensors\"", "\"/etc/passwd\"", "\"\"", "\"..\"", "7"}) {
    EXPECT_REFUSED(OpenWith(absl::StrCat("{\"a\":", name, "}")), absl::StatusCode::kInvalidArgument,
                   "expected the name of a file");
  }
  EXPECT_REFUSED(OpenWith("[]"), absl::StatusCode::kInvalidArgument,
                 "field \"weight_map\" is [], expected an object");
}

TEST(SafetensorsTest, SaysWhatAFolderWithoutWeightsLacks) {
  const TempFolder folder;
  EXPECT_REFUSED(SafetensorsFile::OpenFolder(folder.path()).status(), absl::StatusCode::kNotFound,
                 "has neither model.safetensors nor model.safetensors.index.json");
}

}  // namespace
}  // namespace coterie
