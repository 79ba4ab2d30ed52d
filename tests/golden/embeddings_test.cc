// Sentence embeddings against sentence-transformers (make_embeddings.py).
#include <bit>
#include <cmath>

#include "common/file.h"
#include "gtest/gtest.h"
#include "kernels/formats/half.h"
#include "model/encoder/encoder.h"
#include "nlohmann/json.hpp"
#include "tests/golden/golden_arrays.h"
#include "tests/real_models.h"
#include "tests/source_root.h"

namespace coterie {
namespace {

std::filesystem::path FolderOf(const std::string& name) {
  if (name == "tiny-bert") return testing::SourceRoot() / "tests/data/tiny-bert";
  return testing::RealModels() / "all-MiniLM-L6-v2";
}

// The reference lets a control token written out in a text act as one; for our encoder it is text.
bool HasControlToken(const std::string& text) {
  for (const char* token : {"[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"}) {
    if (text.find(token) != std::string::npos) return true;
  }
  return false;
}

struct Agreement {
  double least_cosine = 1;
  double mean_cosine = 0;
};

// Of our embeddings with the reference's.
void Compare(const std::string& name, NumericsMode mode, Agreement* agreement) {
  const std::filesystem::path folder = FolderOf(name);
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not there; set COTERIE_MODELS";
  const auto content = ReadFile(testing::SourceRoot() / "tests/golden/embedding_texts.json", 16 << 20);
  ASSERT_TRUE(content.ok()) << content.status();
  const auto texts = nlohmann::json::parse(*content).get<std::vector<std::string>>();
  ASSERT_GE(texts.size(), 500u);
  const auto arrays = testing::ReadGoldenArrays(testing::SourceRoot() / "tests/golden/embeddings.bin");
  ASSERT_TRUE(arrays.ok()) << arrays.status();
  const testing::GoldenArray& golden = arrays->at(name);
  std::vector<float> expected;  // [n_texts, dim]
  if (golden.type == 0) {
    expected = golden.As<float>();
  } else {
    for (const uint16_t half : golden.As<uint16_t>()) expected.push_back(HalfToFloat(half));
  }

  const auto encoder = Encoder::Load(folder, {.mode = mode, .n_threads = 2});
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  const auto dim = static_cast<size_t>((*encoder)->dim());
  ASSERT_EQ(expected.size(), texts.size() * dim);
  const auto embeddings = (*encoder)->Embed(texts);
  ASSERT_TRUE(embeddings.ok()) << embeddings.status();
  int n_compared = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (HasControlToken(texts[i])) continue;
    double dot = 0, norm = 0;
    for (size_t d = 0; d < dim; ++d) {
      const double want = expected[i * dim + d];
      dot += want * static_cast<double>((*embeddings)[i][d]);
      norm += want * want;
    }
    const double cosine = dot / std::sqrt(norm);  // ours are of unit norm
    agreement->least_cosine = std::min(agreement->least_cosine, cosine);
    agreement->mean_cosine += cosine;
    ++n_compared;
  }
  ASSERT_GE(n_compared, 480);
  agreement->mean_cosine /= n_compared;
  std::cout << name << ": cosine of " << n_compared << " texts at least 1 - " << 1 - agreement->least_cosine
            << ", mean 1 - " << 1 - agreement->mean_cosine << "\n";
}

class EmbeddingsGoldenTest : public ::testing::TestWithParam<const char*> {};

TEST_P(EmbeddingsGoldenTest, PointWhereSentenceTransformersPoints) {
  Agreement agreement;
  ASSERT_NO_FATAL_FAILURE(Compare(GetParam(), NumericsMode::kExact, &agreement));
  if (IsSkipped()) return;
  EXPECT_GE(agreement.least_cosine, 0.9999);
}

TEST(FastEmbeddingsGoldenTest, PointNearlyThere) {
  Agreement agreement;
  ASSERT_NO_FATAL_FAILURE(Compare("minilm", NumericsMode::kFast, &agreement));
  if (IsSkipped()) return;
  EXPECT_GE(agreement.least_cosine, 0.998);  // docs/numerics.md
  EXPECT_GE(agreement.mean_cosine, 0.9995);
}

INSTANTIATE_TEST_SUITE_P(BothEncoders, EmbeddingsGoldenTest, ::testing::Values("tiny-bert", "minilm"),
                         [](const auto& info) {
                           return std::string(info.param) == "minilm" ? "MiniLm" : "Tiny";
                         });

}  // namespace
}  // namespace coterie
