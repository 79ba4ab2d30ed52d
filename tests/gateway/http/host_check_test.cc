#include "gateway/http/server/host_check.h"

#include "gtest/gtest.h"

namespace coterie::gateway::http {
namespace {

TEST(HostCheckTest, NamesThatNobodyCanOwnAreAllowed) {
  const HostCheck check({});
  for (const char* host : {"", "localhost", "LOCALHOST:7080", "localhost.", "app.localhost:80", "127.0.0.1",
                           "127.0.0.1:7080", "10.1.2.3:7080", "[::1]", "[fe80::1]:7080", "coterie",
                           "coterie:80", "gateway.internal", "gateway.internal.:7080"}) {
    EXPECT_TRUE(check.Allows(host)) << host;
  }
  for (const char* host : {"evil.com", "evil.com:7080", "EVIL.COM.", "localhost.evil.com",
                           "127.0.0.1.evil.com", "127.0.0.1.nip.io:7080", "evil.com:127", "1.2.3",
                           "1.2.3.4.5", "internal.evil.com", "notlocalhost.com", "api.example.com"}) {
    EXPECT_FALSE(check.Allows(host)) << host;
  }
}

TEST(HostCheckTest, OthersAreAllowedByName) {
  const HostCheck check({"api.Example.com", "other.example.com:8080"});
  EXPECT_TRUE(check.Allows("API.example.com:443"));
  EXPECT_TRUE(check.Allows("api.example.com."));
  EXPECT_TRUE(check.Allows("other.example.com"));  // by any port
  EXPECT_FALSE(check.Allows("example.com"));
  EXPECT_FALSE(check.Allows("x.api.example.com"));
  EXPECT_TRUE(HostCheck({"*"}).Allows("evil.com"));
}

}  // namespace
}  // namespace coterie::gateway::http
