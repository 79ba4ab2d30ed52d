#include "model/format/base_digest.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "absl/time/clock.h"
#include "model/format/read_ahead.h"
#include "tests/model/format/temp_folder.h"
#include "tests/model/format/tiny_model.h"
#include "tests/source_root.h"

namespace coterie {
namespace {

// TinyConfig with an embedding of several pieces.
ModelConfig WideConfig() {
  ModelConfig config = testing::TinyConfig();
  config.vocab_size = 100'000;  // [100000, 8] floats: 3.2 MB
  return config;
}

std::string WideGguf() {
  const ModelConfig config = WideConfig();
  testing::GgufWriter writer = testing::TinyGgufMetadata(config);
  return testing::AddTinyWeights(&writer, config).Bytes();
}

std::unique_ptr<ModelFiles> FilesOf(const std::string& gguf) {
  auto file = GgufFile::Parse(testing::AsBytes(gguf), "wide.gguf");
  EXPECT_TRUE(file.ok()) << file.status();
  auto files = ModelFiles::FromGguf(*std::move(file));
  EXPECT_TRUE(files.ok()) << files.status();
  return *std::move(files);
}

TEST(BaseDigestTest, LayersMayBeAddedInAnyOrder) {
  const std::string gguf = WideGguf();
  const auto files = FilesOf(gguf);
  BaseDigest digest(*files);
  for (const int layer : {1, BaseDigest::kOnce, 0}) digest.Add(layer);
  EXPECT_EQ(digest.Finish(), files->ComputeDigest());
}

TEST(BaseDigestTest, EveryPieceOfEveryWeightCounts) {
  std::string gguf = WideGguf();
  const Digest first = FilesOf(gguf)->ComputeDigest();
  const auto files = FilesOf(gguf);
  const auto changed = [&](const TensorView& tensor, size_t at) {
    char& byte =
        gguf[static_cast<size_t>(tensor.bytes.data() - reinterpret_cast<const uint8_t*>(gguf.data())) + at];
    byte = static_cast<char>(byte ^ 1);
    const Digest digest = files->ComputeDigest();
    byte = static_cast<char>(byte ^ 1);
    return digest;
  };
  std::set<Digest> digests = {first};
  size_t n = 1;
  const TensorView& embedding = files->Get(WeightRole::kTokenEmbedding).tensor;
  for (const size_t at : {size_t{0}, (size_t{1} << 20) - 1, size_t{1} << 20, embedding.bytes.size() - 1}) {
    digests.insert(changed(embedding, at));
    ++n;
  }
  for (const WeightRole role : files->Roles(/*per_layer=*/true)) {
    for (const int layer : {0, 1}) {
      digests.insert(changed(files->Get(role, layer).tensor, 0));
      ++n;
    }
  }
  EXPECT_EQ(digests.size(), n);
  EXPECT_EQ(files->ComputeDigest(), first);
}

// Cards name their base by it: whoever changes it takes the base away from every expert.
TEST(BaseDigestTest, TheDigestOfABaseStaysWhatItIs) {
  EXPECT_EQ((*ModelFiles::Open(testing::SourceRoot() / "tests/data/tiny-llama"))->ComputeDigest().Short(),
            "36a802b7d9e9");
}

TEST(ReadAheadTest, PagesOfTheLayerInHandAndTheNextAreFetched) {
  const testing::TempFolder folder;
  const std::filesystem::path path = folder.Write("wide.gguf", WideGguf());
  const int fd = ::open(path.c_str(), O_RDONLY);
  ::fsync(fd);
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  ::close(fd);
  const auto files = std::move(ModelFiles::Open(path)).value();
  ReadAhead ahead(*files);
  ahead.At(1);
  const std::span<const uint8_t> bytes = files->Get(WeightRole::kTokenEmbedding).tensor.file->bytes();
  std::vector<unsigned char> pages((bytes.size() + 4095) / 4096);
  const auto all_there = [&] {
    EXPECT_EQ(::mincore(const_cast<uint8_t*>(bytes.data()), bytes.size(), pages.data()), 0);
    return std::ranges::all_of(pages, [](unsigned char page) { return (page & 1) != 0; });
  };
  for (int i = 0; i < 1000 && !all_there(); ++i) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_TRUE(all_there());
}

TEST(ReadAheadTest, EndsWhereverItStands) {
  const auto files =
      std::move(ModelFiles::Open(testing::SourceRoot() / "tests/data/tiny-llama.gguf")).value();
  for (int layer = -1; layer <= files->config().n_layers; ++layer) {
    ReadAhead ahead(*files);
    ahead.At(layer);
  }
}

}  // namespace
}  // namespace coterie
