#include "net/listen_socket.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "net/peer_address.h"
#include "tests/net/raw_client.h"

namespace coterie::net {
namespace {

using ::testing::HasSubstr;

TEST(ListenTest, PicksAPortAndNeverSharesIt) {
  const auto first = Listen("127.0.0.1:0");
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_GT(first->port, 0);
  const std::string address = "127.0.0.1:" + std::to_string(first->port);
  const auto second = Listen(address);
  EXPECT_TRUE(absl::IsAlreadyExists(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(address));
}

TEST(ListenTest, EveryAddressOfTheHostHasTheSamePort) {
  for (const char* address : {"localhost:0", "[::]:0", ":0", "0.0.0.0:0"}) {
    const auto sockets = Listen(address);
    ASSERT_TRUE(sockets.ok()) << address << ": " << sockets.status();
    EXPECT_TRUE(testing::RawClient(sockets->port).connected()) << address;
  }
}

TEST(ListenTest, SaysWhatIsWrongWithAnAddress) {
  const auto message = [](const char* address) {
    const auto sockets = Listen(address);
    EXPECT_TRUE(absl::IsInvalidArgument(sockets.status())) << address << ": " << sockets.status();
    EXPECT_THAT(std::string(sockets.status().message()), HasSubstr(address));
    return std::string(sockets.status().message());
  };
  EXPECT_THAT(message("127.0.0.1"), HasSubstr("no port"));
  EXPECT_THAT(message("127.0.0.1:http"), HasSubstr("not a number from 0 to 65535"));
  EXPECT_THAT(message("127.0.0.1:65536"), HasSubstr("not a number from 0 to 65535"));
  EXPECT_THAT(message("::1:7070"), HasSubstr("in brackets"));
  EXPECT_THAT(message("192.0.2.1:0"), HasSubstr("not one of this machine"));
  EXPECT_THAT(message("no-such-host.invalid:0"), HasSubstr("no address here"));
}

TEST(PeerAddressTest, AClientIsAnIPv4AddressOrAnIPv6Network) {
  const auto v6 = [](const std::array<uint8_t, 16>& ip) {
    return PeerAddress::FromBytes({reinterpret_cast<const char*>(ip.data()), ip.size()}, 1);
  };
  const PeerAddress a = PeerAddress::FromBytes(std::string_view("\x0a\0\0\1", 4), 1);
  const PeerAddress mapped = v6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1});
  EXPECT_EQ(a, mapped);
  EXPECT_EQ(a.ToString(), "10.0.0.1");
  EXPECT_NE(a.Client(), PeerAddress::FromBytes(std::string_view("\x0a\0\0\2", 4), 1).Client());
  const PeerAddress here = v6({0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1});
  const PeerAddress beside = v6({0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9});
  const PeerAddress elsewhere = v6({0x20, 1, 0xd, 0xb8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1});
  EXPECT_EQ(here.Client(), beside.Client());
  EXPECT_NE(here.Client(), elsewhere.Client());
  EXPECT_EQ(here.ToString(), "2001:db8:0:1::1");
}

}  // namespace
}  // namespace coterie::net
