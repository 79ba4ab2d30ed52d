#ifndef COTERIE_TESTS_MODEL_STORE_STORE_TESTING_H_
#define COTERIE_TESTS_MODEL_STORE_STORE_TESTING_H_

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "common/file.h"
#include "gtest/gtest.h"
#include "model/store/expert_store.h"

namespace coterie {

// A safetensors file with one F32 tensor. `metadata`: JSON text of the __metadata__ object, or empty.
inline std::string SafetensorsOf(std::string_view tensor, std::vector<int64_t> shape,
                                 const std::vector<float>& values, std::string_view metadata = "") {
  std::string dims;
  for (const int64_t d : shape) absl::StrAppend(&dims, dims.empty() ? "" : ",", d);
  std::string header = "{";
  if (!metadata.empty()) absl::StrAppend(&header, "\"__metadata__\":", ToAbsl(metadata), ",");
  absl::StrAppend(&header, "\"", ToAbsl(tensor), "\":{\"dtype\":\"F32\",\"shape\":[", dims,
                  "],\"data_offsets\":[0,", values.size() * sizeof(float), "]}}");
  const uint64_t n = header.size();
  std::string file(reinterpret_cast<const char*>(&n), sizeof(n));
  file += header;
  file.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  return file;
}

struct TestExpert {
  std::string name = "postgres";
  std::string version = "1";
  std::string weights = "weights of postgres";
  std::string description = "about databases";
  std::vector<float> prototypes = {1, 0, 0, 0, 1, 0};  // [2, 3]
  std::string card_tail;
};

inline std::string CardOf(const TestExpert& expert) {
  return absl::StrCat("name: ", expert.name, "\nversion: \"", expert.version,
                      "\"\ndescription: ", expert.description, "\n", expert.card_tail);
}

inline void WriteExpert(const std::filesystem::path& folder, const TestExpert& expert) {
  std::filesystem::create_directories(folder);
  const auto write = [&](std::string_view file, std::string_view content) {
    std::ofstream out(folder / file, std::ios::binary);
    out << content;
    ASSERT_TRUE(out.good()) << file;
  };
  write(kConfigFile, "{\"r\": 4}");
  write(kWeightsFile, expert.weights);
  write(kCardFile, CardOf(expert));
  write(kPrototypesFile, SafetensorsOf("prototypes", {static_cast<int64_t>(expert.prototypes.size() / 3), 3},
                                       expert.prototypes));
}

// Digest of both files; refuses weights that begin with "bad".
inline StatusOr<Digest> HashAdapter(const std::filesystem::path& folder, const ExpertCard& card) {
  ASSIGN_OR_RETURN(const std::string config, ReadFile(folder / kConfigFile, 1 << 20));
  ASSIGN_OR_RETURN(const std::string weights, ReadFile(folder / kWeightsFile, 64 << 20));
  if (weights.rfind("bad", 0) == 0) {
    return absl::FailedPreconditionError(
        "adapter_config.json: field use_dora is true, which is not supported");
  }
  return Hasher().UpdateField(config).UpdateField(weights).Finish();
}

inline ExpertStoreOptions TestOptions() {
  ExpertStoreOptions options;
  options.validate_adapter = HashAdapter;
  options.create = true;
  return options;
}

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ =
        std::filesystem::path(::testing::TempDir()) / absl::StrCat("store_", ::getpid(), "_", info->name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path Root() const { return folder_ / "store"; }
  std::unique_ptr<ExpertStore> OpenStore(ExpertStoreOptions options = TestOptions()) {
    auto store = ExpertStore::Open(Root(), std::move(options));
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  // The folder of an expert, written.
  std::filesystem::path Source(const TestExpert& expert) {
    const auto source = folder_ / absl::StrCat("source", n_sources_++);
    WriteExpert(source, expert);
    return source;
  }
  static size_t CountFiles(const std::filesystem::path& folder) {
    return static_cast<size_t>(
        std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()));
  }

  std::filesystem::path folder_;
  int n_sources_ = 0;
};

}  // namespace coterie

#endif  // COTERIE_TESTS_MODEL_STORE_STORE_TESTING_H_
