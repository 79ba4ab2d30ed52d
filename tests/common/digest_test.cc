#include "common/digest.h"

#include "gtest/gtest.h"

namespace coterie {
namespace {

TEST(DigestTest, MatchesThePublishedVectorOfFips180) {
  EXPECT_EQ(Sha256("abc").ToHex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(DigestTest, FieldsDoNotRunIntoEachOther) {
  EXPECT_NE(Hasher().UpdateField("ab").UpdateField("c").Finish(),
            Hasher().UpdateField("a").UpdateField("bc").Finish());
}

TEST(DigestTest, HexRoundTripsAndRefusesWhatIsNotHex) {
  const Digest digest = Sha256("x");
  EXPECT_EQ(Digest::FromHex(digest.ToHex()).value(), digest);
  EXPECT_EQ(Digest::FromHex("abc").status().message(), "digest has 3 characters, want 64 hexadecimal digits");
  EXPECT_FALSE(Digest::FromHex(std::string(64, 'G')).ok());
}

}  // namespace
}  // namespace coterie
