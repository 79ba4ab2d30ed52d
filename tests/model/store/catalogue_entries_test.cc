#include "model/store/catalogue_entries.h"

#include <algorithm>
#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/store/catalogue.h"
#include "tests/testing/seed.h"

namespace coterie {
namespace {

std::string NameOf(size_t i) { return absl::StrCat("e", absl::Dec(i, absl::kZeroPad5)); }

class Maker {
 public:
  explicit Maker(uint64_t seed) : random_(seed) {}

  size_t Below(size_t n) { return random_() % n; }

  // Anything an entry can hold, empty and long, shared with others and its own.
  CatalogueEntry Entry(std::string name) {
    CatalogueEntry entry{
        .name = std::move(name), .live = Version(), .description = Text(), .licence = Text()};
    if (Below(4) == 0) {
      entry.canary = CatalogueCanary{.version = Version(), .share = 1.0 / static_cast<double>(1 + Below(9))};
      entry.canary->version.adapter = Sha256(absl::StrCat("canary ", random_()));
    }
    for (size_t i = Below(4); i > 0; --i) entry.tags.push_back(absl::StrCat("tag ", Below(9)));
    if (Below(2) == 0) entry.min_score = static_cast<float>(Below(1000)) / 1000 - 0.5f;
    if (Below(2) == 0)
      entry.routing = RoutingReference{0.25 * static_cast<double>(Below(4)), 1.0 / 3, random_() | 1};
    entry.n_prototypes = static_cast<uint32_t>(random_() >> Below(33));
    for (size_t i = Below(Below(8) == 0 ? 17 : 2); i > 0; --i) entry.history.push_back(Version());
    return entry;
  }

 private:
  Digest Hash() { return Sha256(absl::StrCat(Below(2) == 0 ? Below(3) : random_())); }
  std::string Text() {
    switch (Below(20)) {
      case 0:
        return std::string(Below(3000), 'x');
      case 1:
        return std::string("\0\xff\n", 3) + std::to_string(random_());
      case 2:
        return "";
      default:
        return absl::StrCat("text ", Below(Below(2) == 0 ? 5 : 100'000));
    }
  }
  ExpertVersion Version() {
    ExpertVersion version{.adapter = Hash(),
                          .revision = Hash(),
                          .version = Text(),
                          .adapter_bytes = random_() >> Below(64),
                          .published_unix = static_cast<int64_t>(random_()) >> Below(64)};
    if (Below(2) == 0) version.base = Hash();
    if (Below(2) == 0) version.embedder = Hash();
    version.withdrawn = Below(2) == 0;
    return version;
  }

  std::mt19937_64 random_;
};

std::vector<CatalogueEntry> All(const CatalogueEntries& entries) {
  std::vector<CatalogueEntry> all;
  for (const CatalogueEntry& entry : entries) all.push_back(entry);
  return all;
}

TEST(CatalogueEntriesTest, WhatIsPackedComesBack) {
  Maker maker(testing::TestSeed());
  for (const size_t n : {0u, 1u, 2u, 64u, 65u, 128u, 129u, 1000u}) {
    std::vector<CatalogueEntry> given;
    for (size_t i = 0; i < n; ++i) given.push_back(maker.Entry(NameOf(i)));
    const CatalogueEntries entries{std::span<const CatalogueEntry>(given)};
    ASSERT_EQ(entries.size(), n);
    EXPECT_EQ(entries.empty(), n == 0);
    ASSERT_EQ(All(entries), given);
    for (size_t i = 0; i < n; i += 1 + n / 10) EXPECT_EQ(entries[i], given[i]);
    EXPECT_EQ(entries.Find("e"), nullptr);
    EXPECT_EQ(entries.Find("f"), nullptr);
  }
}

// Against a map, through hundreds of changes.
TEST(CatalogueEntriesTest, ChangesAreThoseOfAnOrderedMap) {
  Maker maker(testing::TestSeed());
  std::map<std::string, CatalogueEntry> expected;
  CatalogueEntries entries;
  for (int round = 0; round < 1600; ++round) {
    // Grows to some hundred, then shrinks to nothing.
    const bool grows = round < 800;
    const std::string name = NameOf(maker.Below(300));
    if (maker.Below(10) < (grows ? 8u : 1u)) {
      CatalogueEntry entry = maker.Entry(name);
      expected[name] = entry;
      entries.Put(std::move(entry));
    } else {
      EXPECT_EQ(entries.Erase(name), expected.erase(name) > 0);
    }
    ASSERT_EQ(entries.size(), expected.size());
    const std::string other = NameOf(maker.Below(300));
    const auto found = entries.Find(other);
    const auto it = expected.find(other);
    ASSERT_EQ(found != nullptr, it != expected.end());
    if (found != nullptr) {
      ASSERT_EQ(*found, it->second);
    }
    const auto after = expected.upper_bound(other);
    const auto next = entries.UpperBound(other);
    ASSERT_EQ(next == entries.end(), after == expected.end());
    if (after != expected.end()) {
      ASSERT_EQ(next.name(), after->first);
    }
    if (round % 100 != 0) continue;
    auto at = entries.begin();
    for (const auto& [key, entry] : expected) {
      ASSERT_EQ(at.name(), key);
      ASSERT_EQ(*at, entry);
      ++at;
    }
    ASSERT_TRUE(at == entries.end());
  }
}

TEST(CatalogueEntriesTest, EqualityIsOfTheEntriesAndNotOfTheirBlocks) {
  Maker maker(testing::TestSeed());
  std::vector<CatalogueEntry> given;
  for (size_t i = 0; i < 300; ++i) given.push_back(maker.Entry(NameOf(i)));
  const CatalogueEntries at_once{std::span<const CatalogueEntry>(given)};
  CatalogueEntries one_by_one;
  for (const CatalogueEntry& entry : given) one_by_one.Put(entry);
  EXPECT_EQ(at_once, one_by_one);
  CatalogueEntries other = at_once;
  EXPECT_EQ(at_once, other);
  given[137].n_prototypes ^= 1;
  other.Put(given[137]);
  EXPECT_FALSE(at_once == other);
  EXPECT_TRUE(other.Erase(NameOf(137)));
  EXPECT_FALSE(at_once == other);
}

size_t NotShared(const Catalogue& before, const Catalogue& after) {
  size_t n = 0;
  auto old = before.entries.begin();
  for (auto it = after.entries.begin(); it != after.entries.end(); ++it) {
    while (old != before.entries.end() && old.name() < it.name()) ++old;
    n += old == before.entries.end() || !old.IsShared(it) ? 1 : 0;
  }
  return n;
}

// What a generation costs beside the one before is what changed: in the memory of who publishes and of who
// follows.
TEST(CatalogueEntriesTest, GenerationsShareWhatDidNotChange) {
  Maker maker(testing::TestSeed());
  Catalogue before;
  for (size_t i = 0; i < 2000; ++i) before.entries.Put(maker.Entry(NameOf(2 * i)));
  const auto follow = [](const Catalogue& known, const Catalogue& next) {
    return ParseCatalogue(SerializeCatalogue(next), "c", {}, &known).value();
  };
  // As read back: texts that are no UTF-8 are not what they were.
  before = ParseCatalogue(SerializeCatalogue(before), "c").value();
  EXPECT_EQ(NotShared(before, follow(before, before)), 0u);
  Catalogue next = before;
  for (const size_t i : {0u, 1400u, 1401u, 3998u, 5001u}) next.entries.Put(maker.Entry(NameOf(i)));
  next.entries.Erase(NameOf(3000));
  EXPECT_GE(NotShared(before, next), 6u);
  EXPECT_LE(NotShared(before, next), 6 * 128u);
  next = ParseCatalogue(SerializeCatalogue(next), "c").value();
  const Catalogue followed = follow(before, next);
  EXPECT_EQ(followed, next);
  EXPECT_LE(NotShared(before, followed), 6 * 128u);
  // One at a time for ever, as a store grows: blocks stay of some size.
  Catalogue grown = before;
  for (size_t i = 0; i < 60; ++i) {
    Catalogue one = grown;
    ++one.generation;
    one.entries.Put({.name = NameOf(1 + 2 * maker.Below(2000)),
                     .live = {.adapter = Sha256("a"), .revision = Sha256("r")}});
    grown = follow(grown, one);
  }
  size_t n_blocks = 0;
  for (auto it = grown.entries.begin(); it != grown.entries.end(); ++it) n_blocks += it.block_size() > 0;
  EXPECT_LE(n_blocks, grown.entries.size() / 16);
}

}  // namespace
}  // namespace coterie
