#ifndef COTERIE_TESTS_GATEWAY_EXPERTS_H_
#define COTERIE_TESTS_GATEWAY_EXPERTS_H_

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "gateway/core/gateway_core.h"
#include "model/store/expert_store.h"
#include "tests/gateway/fake_text_model.h"
#include "tests/model/store/store_testing.h"

namespace coterie::gateway::testing {

// A folder of this test's own, empty at first.
inline std::filesystem::path FreshFolder() {
  const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
  const auto folder =
      std::filesystem::path(::testing::TempDir()) / absl::StrCat("gateway_", ::getpid(), "_", info->name());
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

// A store with these experts; what FakeEmbedder makes of their names is their prototype, so a question that
// begins with an expert's first letter is routed to it.
inline std::unique_ptr<ExpertStore> StoreWith(const std::filesystem::path& folder,
                                              const std::vector<std::string>& names) {
  auto store = ExpertStore::Open(folder / "store", TestOptions());
  EXPECT_TRUE(store.ok()) << store.status();
  for (const std::string& name : names) {
    const auto source = folder / name;
    WriteExpert(source, {.name = name, .weights = "weights of " + name});
    const std::vector<float> prototype = FakeEmbedder::VectorOf(name);
    std::ofstream(source / kPrototypesFile, std::ios::binary)
        << SafetensorsOf("prototypes", {1, static_cast<int64_t>(prototype.size())}, prototype);
    const auto published = (*store)->Publish(source);
    EXPECT_TRUE(published.ok()) << published.status();
  }
  return *std::move(store);
}

// The digest under which `name` is live.
inline Digest AdapterOf(const ExpertStore& store, const std::string& name) {
  return store.Snapshot()->Find(name)->live.adapter;
}

// What a counter of one expert says; 0 where it has counted nothing.
inline double ExpertCounter(const GatewayCore& core, const std::string& name, const std::string& expert) {
  const std::string page = core.metrics->registry->Text();
  const std::string series = "\n" + name + "{expert=\"" + expert + "\"} ";
  const size_t at = page.find(series);
  return at == std::string::npos ? 0 : std::stod(page.substr(at + series.size()));
}

}  // namespace coterie::gateway::testing

#endif  // COTERIE_TESTS_GATEWAY_EXPERTS_H_
