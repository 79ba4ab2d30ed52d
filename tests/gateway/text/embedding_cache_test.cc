#include "gateway/text/embedding_cache.h"

#include <gtest/gtest.h>

#include "gateway/text/text_input.h"

namespace coterie::gateway {
namespace {

TEST(EmbeddingCacheTest, KeepsTheMostRecentlyUsedAndTellsSaltsApart) {
  EmbeddingCache cache(2);
  const Digest a = EmbeddingCache::KeyOf("a", ""), b = EmbeddingCache::KeyOf("b", ""),
               c = EmbeddingCache::KeyOf("c", "");
  EXPECT_NE(a, EmbeddingCache::KeyOf("a", "salt"));
  EXPECT_NE(EmbeddingCache::KeyOf("bc", "a"), EmbeddingCache::KeyOf("c", "ab"));
  EXPECT_FALSE(cache.Find(a).has_value());
  cache.Keep(a, {1});
  cache.Keep(b, {2});
  EXPECT_EQ(cache.Find(a), std::vector<float>{1});  // now b is the oldest
  cache.Keep(c, {3});
  EXPECT_EQ(cache.size(), 2u);
  EXPECT_FALSE(cache.Find(b).has_value());
  EXPECT_EQ(cache.Find(a), std::vector<float>{1});
  EXPECT_EQ(cache.Find(c), std::vector<float>{3});
  EmbeddingCache none(0);
  none.Keep(a, {1});
  EXPECT_FALSE(none.Find(a).has_value());
}

TEST(TextInputTest, UserMessagesAreTheLastOnesOldestFirst) {
  TextInput input;
  input.chat = {{"system", "s"}, {"user", "one"},   {"assistant", "x"}, {"user", ""},
                {"user", "two"}, {"user", "three"}, {"assistant", "y"}};
  using Messages = std::vector<std::string>;
  EXPECT_EQ(input.UserMessages(5), (Messages{"one", "two", "three"}));
  EXPECT_EQ(input.UserMessages(2), (Messages{"two", "three"}));
  EXPECT_EQ(input.UserMessages(1), (Messages{"three"}));
  input.chat.push_back({"user", ""});
  EXPECT_EQ(input.UserMessages(2), (Messages{"three", ""}));
  TextInput system;
  system.chat = {{"system", "s"}, {"assistant", "a"}};
  EXPECT_EQ(system.UserMessages(5), (Messages{"a"}));
  TextInput prompt;
  prompt.prompt = "p";
  EXPECT_EQ(prompt.UserMessages(5), (Messages{"p"}));
}

}  // namespace
}  // namespace coterie::gateway
