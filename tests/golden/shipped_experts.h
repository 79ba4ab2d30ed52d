#ifndef COTERIE_TESTS_GOLDEN_SHIPPED_EXPERTS_H_
#define COTERIE_TESTS_GOLDEN_SHIPPED_EXPERTS_H_

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "common/digest.h"
#include "common/file.h"
#include "model/store/expert_card.h"
#include "model/store/prototypes.h"
#include "router/expert_index.h"
#include "tests/source_root.h"

namespace coterie::testing {

inline StatusOr<Prototypes> ReadPrototypes(const std::filesystem::path& folder) {
  ASSIGN_OR_RETURN(const std::string bytes, ReadFile(folder / "prototypes.safetensors", 16 << 20));
  return ParsePrototypes({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, folder.string());
}

inline StatusOr<IndexedExpert> ReadExpert(const std::filesystem::path& folder) {
  ASSIGN_OR_RETURN(const std::string yaml, ReadFile(folder / "expert.yaml", 1 << 20));
  ASSIGN_OR_RETURN(const ExpertCard card, ParseExpertCard(yaml, folder.string()));
  ASSIGN_OR_RETURN(Prototypes prototypes, ReadPrototypes(folder));
  return IndexedExpert{.name = card.name,
                       .adapter = Hasher().UpdateField(card.name).Finish(),
                       .domains = {},
                       .min_score = card.min_score,
                       .prototypes = std::move(prototypes.values)};
}

// The experts of experts/; fails the test where one cannot be read.
inline std::vector<IndexedExpert> ShippedExperts() {
  std::vector<IndexedExpert> experts;
  for (const auto& entry : std::filesystem::directory_iterator(SourceRoot() / "experts")) {
    StatusOr<IndexedExpert> expert = ReadExpert(entry.path());
    EXPECT_TRUE(expert.ok()) << expert.status();
    if (expert.ok()) experts.push_back(*std::move(expert));
  }
  return experts;
}

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_GOLDEN_SHIPPED_EXPERTS_H_
