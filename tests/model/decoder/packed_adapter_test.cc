// Cold loads of one adapter again: from its packed file, with the same bits, whatever became of that file.
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/create.h"
#include "model/decoder/decoder.h"
#include "tests/model/decoder/sequences.h"

namespace coterie {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const fs::path kTestData = fs::path(COTERIE_SOURCE_DIR) / "tests/data";

struct PackedCase {
  const char* name;
  const char* model;
  const char* adapter;
  NumericsMode mode;
};

class PackedAdapterTest : public ::testing::TestWithParam<PackedCase> {
 protected:
  void SetUp() override {
    std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::replace(name.begin(), name.end(), '/', '_');
    root_ = fs::path(::testing::TempDir()) / absl::StrCat("packed_adapter_", ::getpid(), "_", name);
    fs::remove_all(root_);
    const auto digest = Open()->LoadAdapter(kTestData / "tiny-adapters" / GetParam().adapter);
    ASSERT_TRUE(digest.ok()) << digest.status();
    object_ = root_ / "objects" / (*digest)->digest.ToHex();
    fs::create_directories(object_);
    fs::copy(kTestData / "tiny-adapters" / GetParam().adapter, object_);
  }
  void TearDown() override { fs::remove_all(root_); }

  // A worker's decoder over the store.
  std::unique_ptr<Decoder> Open(std::optional<NumericsMode> mode = std::nullopt) {
    const auto files = std::move(ModelFiles::Open(kTestData / GetParam().model)).value();
    CpuBackendOptions backend;
    backend.mode = mode.value_or(GetParam().mode);
    backend.n_threads = 1;
    DecoderOptions options;
    options.n_kv_blocks = 8;
    PackedFolderOptions packed;
    packed.log = [this](std::string_view words) { words_.emplace_back(words); };
    options.packed = std::make_shared<PackedFolder>(root_ / "packed", packed);
    return std::move(Decoder::Create(*files, std::move(CreateCpuDecoderOps(backend)).value(), options))
        .value();
  }

  std::unique_ptr<LoadedAdapter> Load(Decoder* decoder) {
    auto loaded = decoder->LoadAdapter(object_);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return loaded.ok() ? *std::move(loaded) : nullptr;
  }
  // Loads it and keeps it; false when it came from a packed file.
  bool LoadAndKeep(Decoder* decoder) {
    const auto loaded = Load(decoder);
    if (!loaded->keep) return false;
    loaded->keep();
    return true;
  }

  static std::vector<float> Logits(Decoder* decoder, const LoadedAdapter& adapter) {
    testing::TestSequence sequence;
    for (int i = 0; i < 20; ++i) sequence.tokens.push_back(i * 7 % 300);
    sequence.UseBlocks(0, 20);
    decoder->adapter_slots().Fill(0, adapter.packed);
    sequence.adapter_slots = {0};
    sequence.weights = {0.75f};
    Batch batch;
    batch.Clear();
    testing::AddToBatch(&sequence, 20, testing::LogitRows::kLast, &batch);
    const auto logits = testing::RunForLogits(decoder, &batch);
    EXPECT_TRUE(logits.ok()) << logits.status();
    return logits.ok() ? std::vector<float>(logits->begin(), logits->end()) : std::vector<float>();
  }

  std::vector<fs::path> PackedFiles() const {
    auto files = ListFolder(root_ / "packed");
    return files.ok() ? *files : std::vector<fs::path>();
  }
  void LoseWeights() { fs::remove(object_ / "adapter_model.safetensors"); }

  fs::path root_, object_;
  std::vector<std::string> words_;
};

TEST_P(PackedAdapterTest, TheSecondLoadReadsThePackedFileAloneAndGivesTheSameBits) {
  const auto first = Open();
  const auto packed = Load(first.get());
  ASSERT_TRUE(packed->keep);
  EXPECT_FALSE(packed->from_packed);
  EXPECT_THAT(PackedFiles(), IsEmpty()) << "written only once the adapter was handed on";
  packed->keep();
  ASSERT_EQ(PackedFiles().size(), 1u);
  LoseWeights();
  const auto second = Open();
  const auto copied = Load(second.get());
  ASSERT_NE(copied, nullptr);
  EXPECT_TRUE(copied->from_packed);
  EXPECT_FALSE(copied->keep);
  EXPECT_EQ(std::tuple(copied->digest, copied->first_layer, copied->bytes),
            std::tuple(packed->digest, packed->first_layer, packed->bytes));
  EXPECT_TRUE(std::ranges::equal(copied->packed->weights(), packed->packed->weights()));
  const std::vector<float> fresh = Logits(first.get(), *packed), again = Logits(second.get(), *copied);
  ASSERT_FALSE(fresh.empty());
  EXPECT_EQ(std::memcmp(fresh.data(), again.data(), fresh.size() * sizeof(float)), 0);
  EXPECT_THAT(words_, IsEmpty());
}

TEST_P(PackedAdapterTest, ADamagedFileIsIgnoredNamedAndReplaced) {
  const auto decoder = Open();
  ASSERT_TRUE(LoadAndKeep(decoder.get()));
  const fs::path file = PackedFiles().at(0);
  const std::string whole = std::move(ReadFile(file, 1 << 24)).value();
  std::string flipped = whole;
  flipped[whole.size() - 5] ^= 4;
  for (const std::string& damaged : {std::string(), whole.substr(0, 50), whole.substr(0, whole.size() / 2),
                                     whole + "x", flipped, std::string(whole.size(), '\0')}) {
    words_.clear();
    ASSERT_TRUE(WriteFileAtomically(file, damaged).ok());
    EXPECT_TRUE(LoadAndKeep(decoder.get())) << "packed anew";
    EXPECT_THAT(words_, ElementsAre(HasSubstr(file.filename().string())));
    EXPECT_EQ(std::move(ReadFile(file, 1 << 24)).value(), whole);
    EXPECT_FALSE(LoadAndKeep(decoder.get()));
    EXPECT_THAT(words_, ElementsAre(HasSubstr("is ignored")));
  }
}

TEST_P(PackedAdapterTest, AFileOfAnotherAdapterUnderThisNameIsNotTrusted) {
  const auto decoder = Open();
  ASSERT_TRUE(LoadAndKeep(decoder.get()));
  const fs::path file = PackedFiles().at(0);
  std::string bytes = std::move(ReadFile(file, 1 << 24)).value();
  const Digest other = Sha256("another");
  std::copy(other.bytes().begin(), other.bytes().end(), bytes.begin() + 16);
  ASSERT_TRUE(WriteFileAtomically(file, bytes).ok());
  EXPECT_TRUE(LoadAndKeep(decoder.get()));
  EXPECT_THAT(words_, ElementsAre(HasSubstr("of another adapter")));
}

TEST_P(PackedAdapterTest, EachModeHasAFileOfItsOwn) {
  for (const NumericsMode mode : {NumericsMode::kFast, NumericsMode::kExact}) {
    EXPECT_TRUE(LoadAndKeep(Open(mode).get()));
  }
  EXPECT_EQ(PackedFiles().size(), 2u);
  for (const NumericsMode mode : {NumericsMode::kFast, NumericsMode::kExact}) {
    EXPECT_FALSE(LoadAndKeep(Open(mode).get()));
  }
  EXPECT_THAT(words_, IsEmpty());
}

TEST_P(PackedAdapterTest, AStoreThatCannotBeWrittenServesAllTheSame) {
  ASSERT_TRUE(WriteFileAtomically(root_ / "packed", "in the folder's place").ok());
  const auto decoder = Open();
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(LoadAndKeep(decoder.get()));
  EXPECT_THAT(words_, ElementsAre(HasSubstr("this is said once")));
}

TEST_P(PackedAdapterTest, FilesThatAreNotTheDigestTheyAreNamedByAreNotKept) {
  const fs::path wrong = object_.parent_path() / Sha256("another").ToHex();
  fs::rename(object_, wrong);
  object_ = wrong;
  const auto loaded = Load(Open().get());
  EXPECT_NE(loaded->digest, Sha256("another"));
  EXPECT_FALSE(loaded->keep);
}

TEST_P(PackedAdapterTest, AFolderThatIsNotNamedByADigestIsPackedEachTime) {
  const auto decoder = Open();
  const auto loaded = decoder->LoadAdapter(kTestData / "tiny-adapters" / GetParam().adapter);
  ASSERT_TRUE(loaded.ok());
  EXPECT_FALSE((*loaded)->keep);
}

INSTANTIATE_TEST_SUITE_P(
    All, PackedAdapterTest,
    ::testing::Values(PackedCase{"floats", "tiny-llama", "llama-all-linear", NumericsMode::kFast},
                      PackedCase{"blocks", "tiny-llama-q.gguf", "llama-all-linear", NumericsMode::kFast},
                      PackedCase{"patterns", "tiny-llama-q.gguf", "llama-patterns", NumericsMode::kFast},
                      PackedCase{"exact", "tiny-llama-q.gguf", "llama-rslora", NumericsMode::kExact},
                      PackedCase{"upper_layers", "tiny-llama", "llama-top-layers", NumericsMode::kExact}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace coterie
