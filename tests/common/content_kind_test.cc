#include "common/content_kind.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

TEST(ContentKindTest, TellsWhatDownloadsTurnOutToBe) {
  const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4711\n";
  for (const Content expected : {Content::kSafetensors, Content::kGguf, Content::kJson, Content::kYaml}) {
    EXPECT_THAT(WrongContent(expected, pointer), HasSubstr("Git LFS pointer to 4711 bytes"));
    EXPECT_THAT(WrongContent(expected, ""), HasSubstr("is empty"));
    EXPECT_THAT(WrongContent(expected, "\n <!DOCTYPE html><html>"), HasSubstr("web page"));
    EXPECT_THAT(WrongContent(expected, "<HTML>"), HasSubstr("web page"));
    EXPECT_THAT(WrongContent(expected, "\x1f\x8b\x08"), HasSubstr("gzip"));
    EXPECT_THAT(WrongContent(expected, "PK\x03\x04"), HasSubstr("ZIP archive"));
    EXPECT_THAT(WrongContent(expected, "\x80\x02}q"), HasSubstr("pickle"));
    EXPECT_THAT(WrongContent(expected, std::string(100, '\0')), HasSubstr("zeros"));
  }
  EXPECT_THAT(WrongContent(Content::kSafetensors, "{\"error\": \"gone\"}"), HasSubstr("is text"));
  EXPECT_THAT(WrongContent(Content::kSafetensors, "GGUF\x03"), HasSubstr("is a GGUF file"));
  EXPECT_THAT(WrongContent(Content::kGguf, std::string("\x10\0\0\0\0\0\0\0{\"a\":", 13)),
              HasSubstr("is a safetensors file"));
}

TEST(ContentKindTest, SaysNothingOfWhatItDoesNotKnow) {
  EXPECT_EQ(WrongContent(Content::kJson, "{\"r\": 4,"), "");
  EXPECT_EQ(WrongContent(Content::kYaml, "name: a\n - b"), "");
  EXPECT_EQ(WrongContent(Content::kGguf, "GGUF\x09"), "");
  EXPECT_EQ(WrongContent(Content::kSafetensors, std::string("\x10\0\0\0\0\0\0\0{", 9)), "");
  EXPECT_EQ(WrongContent(Content::kSafetensors, "\x01\x9f\xff\x02"), "");
  // Headers of 640 and 65,279 bytes, whose length begins as a pickle and as UTF-16 do.
  EXPECT_EQ(WrongContent(Content::kSafetensors, std::string("\x80\x02\0\0\0\0\0\0{", 9)), "");
  EXPECT_EQ(WrongContent(Content::kSafetensors, std::string("\xff\xfe\0\0\0\0\0\0{", 9)), "");
}

TEST(ContentKindTest, ARefusalIsExplainedAndKept) {
  const Status refusal = absl::OutOfRangeError("truncated");
  EXPECT_EQ(ExplainRefusal(refusal, Content::kGguf, "GGUF\x03", "a.gguf"),
            absl::OutOfRangeError("a.gguf: truncated"));
  EXPECT_EQ(ExplainRefusal(refusal, Content::kGguf, "PK\x03\x04", "a.gguf").code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string(ExplainRefusal(refusal, Content::kGguf, "BZh9", "a.gguf").message()),
              HasSubstr("a.gguf is compressed with bzip2; unpack it first (truncated)"));
  EXPECT_TRUE(ExplainRefusal(absl::OkStatus(), Content::kGguf, "", "a").ok());
}

}  // namespace
}  // namespace coterie
