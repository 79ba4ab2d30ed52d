#include "common/prefix_key.h"

#include <numeric>
#include <set>

#include "gtest/gtest.h"

namespace coterie {
namespace {

std::vector<int32_t> Tokens(int n, int first = 100) {
  std::vector<int32_t> tokens(n);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

TEST(PrefixKeyTest, OnlyWholeBlocksHaveKeys) {
  PrefixHasher hasher;
  const PrefixHash root = hasher.Root(Sha256("base"), {}, "");
  EXPECT_EQ(hasher.Chain(root, Tokens(15)).size(), 0u);
  EXPECT_EQ(hasher.Chain(root, Tokens(16)).size(), 1u);
  EXPECT_EQ(hasher.Chain(root, Tokens(47)).size(), 2u);
}

TEST(PrefixKeyTest, TheSamePrefixHasTheSameKeysInEveryHasher) {
  PrefixHasher a, b;
  const std::vector<PrefixAdapter> adapters = {{Sha256("x"), 0.5f}};
  b.Root(Sha256("something before"), {}, "");
  EXPECT_EQ(a.Chain(a.Root(Sha256("base"), adapters, "salt"), Tokens(64)),
            b.Chain(b.Root(Sha256("base"), adapters, "salt"), Tokens(64)));
}

TEST(PrefixKeyTest, EverythingThatChangesKvChangesTheKey) {
  PrefixHasher hasher;
  const Digest base = Sha256("base");
  const PrefixAdapter x{Sha256("x"), 1.0f}, y{Sha256("y"), 1.0f}, x_half{Sha256("x"), 0.5f};
  using List = std::vector<PrefixAdapter>;
  std::set<PrefixHash> roots = {
      hasher.Root(base, {}, ""),
      hasher.Root(Sha256("other"), {}, ""),
      hasher.Root(base, {}, "tenant"),
      hasher.Root(base, List{x}, ""),
      hasher.Root(base, List{y}, ""),
      hasher.Root(base, List{x_half}, ""),
      hasher.Root(base, List{x, y}, ""),
      hasher.Root(base, List{y, x}, ""),
      hasher.Root(base, List{x}, "tenant"),
      hasher.Root(base, List{x}, "", {GateKind::kArrow, 1}),
      hasher.Root(base, List{x, y}, "", {GateKind::kArrow, 1}),
      hasher.Root(base, List{x, y}, "", {GateKind::kArrow, 2}),
      hasher.Root(base, List{x, y}, "", {GateKind::kNoisy, 2}),
      hasher.Root(base, List{x, y}, "", {GateKind::kNoisy, 2, 1}),
  };
  EXPECT_EQ(roots.size(), 14u);
  EXPECT_EQ(hasher.Root(base, List{x}, "", {}), hasher.Root(base, List{x}, ""));
}

TEST(PrefixKeyTest, AKeyDependsOnEveryTokenBeforeIt) {
  PrefixHasher hasher;
  const PrefixHash root = hasher.Root(Sha256("base"), {}, "");
  std::vector<int32_t> tokens = Tokens(48);
  const std::vector<PrefixHash> before = hasher.Chain(root, tokens);
  tokens[17] ^= 1;
  const std::vector<PrefixHash> after = hasher.Chain(root, tokens);
  EXPECT_EQ(before[0], after[0]);
  EXPECT_NE(before[1], after[1]);
  EXPECT_NE(before[2], after[2]);
}

// Gateways and workers of different builds must agree: this value is the format.
TEST(PrefixKeyTest, TheFormatIsFrozen) {
  PrefixHasher hasher;
  const std::vector<PrefixAdapter> adapters = {{Sha256("x"), 0.5f}};
  const PrefixHash root = hasher.Root(Sha256("base"), adapters, "salt");
  const PrefixHash block = hasher.Chain(root, Tokens(16))[0];
  EXPECT_EQ(block.wire_key(), 0x41f0433094d289f8u);  // computed with hashlib
}

}  // namespace
}  // namespace coterie
