#include "common/hidden_paths.h"

#include "absl/strings/cord.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

std::string Hidden(const std::string& text, const std::filesystem::path& folder = "/srv/my store") {
  return std::string(ToStd(WithoutPaths(absl::InternalError(text), folder, "the expert store").message()));
}

TEST(HiddenPathsTest, LeavesTheFilesName) {
  EXPECT_EQ(Hidden("expert a: /srv/my store/staging/Xy/adapter/adapter_config.json: field r is 0"),
            "expert a: adapter_config.json: field r is 0");
  EXPECT_EQ(Hidden("cannot open /srv/my store: it is gone"), "cannot open the expert store: it is gone");
  EXPECT_EQ(Hidden("cannot rename /srv/my store/staging/a to /srv/my store/objects/b"),
            "cannot rename a to b");
  EXPECT_EQ(Hidden("/srv/my store/lock, held", "/srv/my store/"), "lock, held");
}

TEST(HiddenPathsTest, LeavesWhatIsNoPathOfTheFolder) {
  EXPECT_EQ(Hidden("/srv/my stores/a and /srv/other"), "/srv/my stores/a and /srv/other");
  EXPECT_EQ(Hidden("the store is full", "store"), "the store is full");
  EXPECT_EQ(Hidden("a/b", "/"), "a/b");
  EXPECT_EQ(Hidden("cannot open /var/store/a and ./store/b", "/store"),
            "cannot open /var/store/a and ./store/b");
  EXPECT_TRUE(WithoutPaths(absl::OkStatus(), "/srv", "x").ok());
}

TEST(HiddenPathsTest, KeepsCodeAndPayloads) {
  Status status = absl::ResourceExhaustedError("/srv/a is full");
  status.SetPayload("url", absl::Cord("payload"));
  const Status hidden = WithoutPaths(status, "/srv", "x");
  EXPECT_EQ(hidden.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(*hidden.GetPayload("url"), "payload");
}

}  // namespace
}  // namespace coterie
