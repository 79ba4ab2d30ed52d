// Sentence embeddings against sentence-transformers over every text of make_embeddings.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "common/file.h"
#include "model/encoder/encoder.h"
#include "model/format/float16.h"
#include "nlohmann/json.hpp"
#include "tests/golden/golden_arrays.h"

namespace coterie {
namespace {

using testing::GoldenArray;
using testing::ReadGoldenArrays;

const std::filesystem::path kTests = std::filesystem::path(COTERIE_SOURCE_DIR) / "tests";

// float32 or float16 values.
std::vector<float> Floats(const GoldenArray& array) {
  if (array.type == 0) return array.As<float>();
  std::vector<float> out;
  for (const uint16_t half : array.As<uint16_t>()) out.push_back(HalfToFloat(half));
  return out;
}

void ExpectSameDirections(const std::filesystem::path& folder, const std::string& name) {
  const auto encoder = Encoder::Load(folder);
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  const auto texts =
      nlohmann::json::parse(ReadFile(kTests / "golden/embedding_texts.json", size_t{16} << 20).value())
          .get<std::vector<std::string>>();
  ASSERT_GE(texts.size(), 500u);
  const auto golden = ReadGoldenArrays(kTests / "golden/embeddings.bin");
  ASSERT_TRUE(golden.ok()) << golden.status();
  const GoldenArray& array = golden->at(name);
  const size_t dim = static_cast<size_t>((*encoder)->dim());
  ASSERT_EQ(array.shape,
            (std::vector<uint32_t>{static_cast<uint32_t>(texts.size()), static_cast<uint32_t>(dim)}));
  const std::vector<float> expected = Floats(array);

  const auto embeddings = (*encoder)->Embed(texts);
  ASSERT_TRUE(embeddings.ok()) << embeddings.status();
  double worst = 1;
  for (size_t i = 0; i < texts.size(); ++i) {
    double dot = 0, ours = 0, theirs = 0;
    for (size_t j = 0; j < dim; ++j) {
      const double a = (*embeddings)[i][j], b = expected[i * dim + j];
      dot += a * b;
      ours += a * a;
      theirs += b * b;
    }
    EXPECT_NEAR(ours, 1, 1e-5) << i;
    const double cosine = dot / std::sqrt(ours * theirs);
    EXPECT_GE(cosine, 0.9999) << i << ": " << texts[i].substr(0, 200);
    worst = std::min(worst, cosine);
  }
  printf("%s: %zu texts, least cosine 1 - %.2g\n", name.c_str(), texts.size(), 1 - worst);
}

TEST(EmbeddingGoldenTest, TheTinyEncoderPointsWhereSentenceTransformersDoes) {
  ExpectSameDirections(kTests / "data/tiny-bert", "tiny-bert");
}

TEST(EmbeddingGoldenTest, MiniLmPointsWhereSentenceTransformersDoes) {
  const char* models = std::getenv("COTERIE_MODELS");
  const char* home = std::getenv("HOME");
  const std::filesystem::path folder =
      (models != nullptr ? std::filesystem::path(models)
                         : std::filesystem::path(home == nullptr ? "." : home) / ".cache/coterie/models") /
      "all-MiniLM-L6-v2";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is absent";
  ExpectSameDirections(folder, "minilm");
}

}  // namespace
}  // namespace coterie
