// Sentence embeddings against sentence-transformers (make_embeddings.py).
#include <bit>
#include <cmath>
#include <cstdlib>

#include "common/file.h"
#include "gtest/gtest.h"
#include "model/encoder/encoder.h"
#include "model/format/float16.h"
#include "nlohmann/json.hpp"
#include "tests/golden/golden_arrays.h"

namespace coterie {
namespace {

const std::filesystem::path kSource = COTERIE_SOURCE_DIR;
constexpr double kLeastCosine = 0.9999;

std::filesystem::path FolderOf(const std::string& name) {
  if (name == "tiny-bert") return kSource / "tests/data/tiny-bert";
  const char* folder = std::getenv("COTERIE_MODELS");
  const char* home = std::getenv("HOME");
  return (folder != nullptr ? std::filesystem::path(folder)
                            : std::filesystem::path(home == nullptr ? "." : home) / ".cache/coterie/models") /
         "all-MiniLM-L6-v2";
}

// The reference lets a control token written out in a text act as one; for our encoder it is text.
bool HasControlToken(const std::string& text) {
  for (const char* token : {"[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"}) {
    if (text.find(token) != std::string::npos) return true;
  }
  return false;
}

class EmbeddingsGoldenTest : public ::testing::TestWithParam<const char*> {};

TEST_P(EmbeddingsGoldenTest, PointWhereSentenceTransformersPoints) {
  const std::string name = GetParam();
  const std::filesystem::path folder = FolderOf(name);
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not there; set COTERIE_MODELS";
  const auto content = ReadFile(kSource / "tests/golden/embedding_texts.json", 16 << 20);
  ASSERT_TRUE(content.ok()) << content.status();
  const auto texts = nlohmann::json::parse(*content).get<std::vector<std::string>>();
  ASSERT_GE(texts.size(), 500u);
  const auto arrays = testing::ReadGoldenArrays(kSource / "tests/golden/embeddings.bin");
  ASSERT_TRUE(arrays.ok()) << arrays.status();
  const testing::GoldenArray& golden = arrays->at(name);
  std::vector<float> expected;  // [n_texts, dim]
  if (golden.type == 0) {
    expected = golden.As<float>();
  } else {
    for (const uint16_t half : golden.As<uint16_t>()) expected.push_back(HalfToFloat(half));
  }

  const auto encoder = Encoder::Load(folder, {.n_threads = 2});
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  const auto dim = static_cast<size_t>((*encoder)->dim());
  ASSERT_EQ(expected.size(), texts.size() * dim);
  const auto embeddings = (*encoder)->Embed(texts);
  ASSERT_TRUE(embeddings.ok()) << embeddings.status();
  int n_compared = 0;
  double least = 1;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (HasControlToken(texts[i])) continue;
    double dot = 0, norm = 0;
    for (size_t d = 0; d < dim; ++d) {
      const double want = expected[i * dim + d];
      dot += want * static_cast<double>((*embeddings)[i][d]);
      norm += want * want;
    }
    const double cosine = dot / std::sqrt(norm);  // ours are of unit norm
    least = std::min(least, cosine);
    EXPECT_GE(cosine, kLeastCosine) << "text " << i << ": " << texts[i].substr(0, 80);
    ++n_compared;
  }
  EXPECT_GE(n_compared, 480);
  std::cout << name << ": least cosine of " << n_compared << " texts is 1 - " << 1 - least << "\n";
}

INSTANTIATE_TEST_SUITE_P(BothEncoders, EmbeddingsGoldenTest, ::testing::Values("tiny-bert", "minilm"),
                         [](const auto& info) {
                           return std::string(info.param) == "minilm" ? "MiniLm" : "Tiny";
                         });

}  // namespace
}  // namespace coterie
