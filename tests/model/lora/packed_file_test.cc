#include "model/lora/packed_file.h"

#include <unistd.h>
#include <xxhash.h>

#include <filesystem>
#include <random>

#include "common/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/model/lora/packed_adapter.h"
#include "tests/testing/seed.h"

namespace coterie {
namespace {

using testing::BytesOf;
using ::testing::HasSubstr;
using testing::TinyPacked;

TEST(PackedFileTest, GivesBackPairsAndWeights) {
  const TinyPacked tiny;
  const auto parsed = ParsePackedFile(BytesOf(tiny.file), tiny.key, tiny.base);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_TRUE(std::ranges::equal(parsed->weights, tiny.packed->weights()));
  ASSERT_EQ(parsed->pairs.size(), tiny.pairs.size());
  for (size_t i = 0; i < tiny.pairs.size(); ++i) {
    const HostLora &is = parsed->pairs[i], &was = tiny.pairs[i];
    EXPECT_EQ(std::tuple(is.layer, is.module, is.scale, is.a.dtype, is.a.n_out, is.a.n_in),
              std::tuple(was.layer, was.module, was.scale, was.a.dtype, was.a.n_out, was.a.n_in));
    EXPECT_EQ(std::tuple(is.b.dtype, is.b.n_out, is.b.n_in),
              std::tuple(was.b.dtype, was.b.n_out, was.b.n_in));
    EXPECT_EQ(is.a.data, nullptr);
  }
  EXPECT_TRUE(cpu::CpuAdapter::Copy(parsed->pairs, {.eight_bits = false}, parsed->weights).ok());
}

TEST(PackedFileTest, EveryTruncationIsRefused) {
  const TinyPacked tiny;
  for (size_t n = 0; n < tiny.file.size(); ++n) {
    ASSERT_EQ(ParsePackedFile(BytesOf(tiny.file).first(n), tiny.key, tiny.base).status().code(),
              absl::StatusCode::kDataLoss)
        << n << " bytes";
  }
  EXPECT_EQ(ParsePackedFile(BytesOf(tiny.file + '\0'), tiny.key, tiny.base).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(PackedFileTest, EveryFlippedBitIsRefused) {
  TinyPacked tiny;
  for (size_t at = 0; at < tiny.file.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      tiny.file[at] = static_cast<char>(tiny.file[at] ^ 1 << bit);
      ASSERT_EQ(ParsePackedFile(BytesOf(tiny.file), tiny.key, tiny.base).status().code(),
                absl::StatusCode::kDataLoss)
          << "bit " << bit << " of byte " << at;
      tiny.file[at] = static_cast<char>(tiny.file[at] ^ 1 << bit);
    }
  }
}

TEST(PackedFileTest, AnotherAdapterLayoutOrBaseIsNeverTrusted) {
  const TinyPacked tiny;
  const auto message = [&](const PackedKey& key, const ModelConfig& base) {
    const auto parsed = ParsePackedFile(BytesOf(tiny.file), key, base);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kDataLoss);
    return std::string(parsed.status().message());
  };
  EXPECT_THAT(message({Sha256("x"), tiny.key.layout}, tiny.base), HasSubstr("of another adapter"));
  EXPECT_THAT(message({tiny.key.adapter, Sha256("x")}, tiny.base), HasSubstr("of another layout"));
  ModelConfig wider = tiny.base;
  wider.ffn_size = 16;
  EXPECT_THAT(message(tiny.key, wider), HasSubstr("another shape than the base's"));
  ModelConfig shallower = tiny.base;
  shallower.n_layers = 1;
  EXPECT_THAT(message(tiny.key, shallower), HasSubstr("is of none that the base has"));
  EXPECT_EQ(ParsePackedFile(BytesOf(tiny.file), tiny.key, tiny.base, {.max_rank = 1}).status().code(),
            absl::StatusCode::kDataLoss);
}

TEST(PackedFileTest, TheLayoutNamesAllThatDecidesTheBytes) {
  const Digest base = Sha256("base");
  const Digest layout = PackedLayout("cpu/1", base, {true, false});
  EXPECT_EQ(PackedLayout("cpu/1", base, {true, false}), layout);
  EXPECT_NE(PackedLayout("cpu/2", base, {true, false}), layout);
  EXPECT_NE(PackedLayout("cpu/1", Sha256("other"), {true, false}), layout);
  EXPECT_NE(PackedLayout("cpu/1", base, {true, true}), layout);
  EXPECT_NE(PackedLayout("cpu/1", base, {true, false, false}), layout);
}

// What a writer with bad intentions, or a bug of ours, would leave: heads that are wrong and well sealed.
TEST(PackedFileTest, AWrongHeadUnderARightChecksumDoesNoHarm) {
  const TinyPacked tiny;
  std::mt19937 random(testing::TestSeed());
  const size_t head_bytes = tiny.file.size() - tiny.packed->bytes();
  int n_parsed = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string file = tiny.file;
    for (unsigned n = random() % 3; n-- > 0;)
      file[80 + random() % (head_bytes - 80)] = static_cast<char>(random());
    if (random() % 4 == 0) file.resize(random() % (2 * file.size()));
    if (file.size() >= 16) {
      const uint64_t sum = XXH3_64bits(file.data() + 16, file.size() - 16);
      std::memcpy(file.data() + 8, &sum, sizeof sum);
    }
    const auto parsed = ParsePackedFile(BytesOf(file), tiny.key, tiny.base);
    if (!parsed.ok()) continue;
    ++n_parsed;
    for (const bool eight_bits : {false, true}) {
      const auto copy = cpu::CpuAdapter::Copy(parsed->pairs, {.eight_bits = eight_bits}, parsed->weights);
      if (copy.ok()) {
        EXPECT_EQ((*copy)->bytes(), parsed->weights.size());
      }
    }
  }
  EXPECT_GT(n_parsed, 100);
}

TEST(PackedFileTest, AFileThatShrinksWhileItIsMappedIsAnError) {
  TinyPacked tiny;
  const auto path = std::filesystem::path(::testing::TempDir()) / absl::StrCat("shrinks-", ::getpid());
  const std::string weights(1 << 20, 'w');  // many pages
  std::string file = PackedFileHead(tiny.key, tiny.pairs, BytesOf(weights)) + weights;
  ASSERT_TRUE(WriteFileAtomically(path, file).ok());
  const auto mapped = MappedFile::Open(path);
  ASSERT_TRUE(mapped.ok());
  ASSERT_TRUE(ParsePackedFile((*mapped)->bytes(), tiny.key, tiny.base).ok());
  ASSERT_EQ(::truncate(path.c_str(), 4096), 0);
  EXPECT_EQ(ParsePackedFile((*mapped)->bytes(), tiny.key, tiny.base).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ((*mapped)->CheckWhole().code(), absl::StatusCode::kDataLoss);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace coterie
