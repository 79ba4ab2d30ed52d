#include "kernels/comm/gloo.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "kernels/comm/member_card.h"
#include "tests/comm/backends.h"
#include "tests/comm/every_step.h"
#include "tests/comm/script.h"
#include "tests/gateway/tcp_proxy.h"

// The network between members.
namespace coterie::comm_testing {
namespace {

using gateway::testing::TcpProxy;
using ::testing::HasSubstr;

constexpr absl::Duration kGlooLoss = absl::Seconds(3);  // what a lost member costs

class GlooTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (MakeBackend("gloo") == nullptr) GTEST_SKIP() << "Gloo is not in this build";
  }
};

int PortOf(const MemberCard& card, int rank) {
  const size_t n_bytes = card.details.size() / card.members.size();
  sockaddr_in address = {};
  std::memcpy(&address, card.details.data() + static_cast<size_t>(rank) * n_bytes, sizeof(address));
  return ntohs(address.sin_port);
}

// Connects to a port of this machine; -1 when it takes no more.
int ConnectTo(int port) {
  sockaddr_in address = {.sin_family = AF_INET};
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return fd;
  close(fd);
  return -1;
}

void ResetConnection(int fd) {
  const linger at_once = {.l_onoff = 1, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  close(fd);
}

// The rendezvous as one member sees it who reaches the others over proxies only.
class ProxiedRendezvous : public Rendezvous {
 public:
  ProxiedRendezvous(Rendezvous* rendezvous, int rank) : rendezvous_(rendezvous), rank_(rank) {}

  Status Publish(const RendezvousKey& key, const std::string& text, MonotonicTime deadline,
                 const AbortFlag& abort) override {
    return rendezvous_->Publish(key, text, deadline, abort);
  }
  StatusOr<std::string> Await(const RendezvousKey& key, MonotonicTime deadline,
                              const AbortFlag& abort) override {
    StatusOr<std::string> text = rendezvous_->Await(key, deadline, abort);
    if (!text.ok() || key.topic != "card" || key.rank == rank_) return text;
    MemberCard card = *MemberCard::Parse(*text);
    proxies_.push_back(std::make_unique<TcpProxy>(PortOf(card, rank_)));
    const size_t n_bytes = card.details.size() / card.members.size();
    const uint16_t port = htons(static_cast<uint16_t>(proxies_.back()->port()));
    std::memcpy(card.details.data() + static_cast<size_t>(rank_) * n_bytes + offsetof(sockaddr_in, sin_port),
                &port, sizeof(port));
    return card.Encode();
  }
  const std::vector<std::unique_ptr<TcpProxy>>& proxies() const { return proxies_; }

 private:
  Rendezvous* const rendezvous_;
  const int rank_;
  std::vector<std::unique_ptr<TcpProxy>> proxies_;
};

// Member 2 is cut off from the others at its step.
void RunWithCut(bool black_hole, LossTrial* trial) {
  auto rendezvous = std::make_shared<InProcessRendezvous>();
  std::vector<std::unique_ptr<Communicator>> members(3);
  auto proxied = std::make_shared<ProxiedRendezvous>(rendezvous.get(), 2);
  OnThreads(3, [&](int rank) {
    CommunicatorOptions options = Member("g", 1, rank, 3);
    options.form_timeout = trial->timeout;
    int step = 0;
    if (rank == 2) {
      options.on_step = [&](std::string_view) {
        if (step++ != trial->step) return;
        trial->reached = true;
        for (const auto& proxy : proxied->proxies()) black_hole ? proxy->SetBlackHole(true) : proxy->Cut();
      };
    }
    // The member with the larger address connects, so it is the one that goes over the proxies.
    StatusOr<std::unique_ptr<Communicator>> joined =
        rank == 2 ? CreateGlooCommunicator({.address = "127.0.0.5"}, proxied, options)
                  : CreateGlooCommunicator({.address = "127.0.0.1"}, rendezvous, options);
    const auto r = static_cast<size_t>(rank);
    trial->results[r] = joined.status();
    if (!joined.ok()) return;
    members[r] = *std::move(joined);
    trial->results[r] = RunScript(members[r].get(), {.timeout = trial->timeout}, AllocateOnHost);
    if (!trial->results[r].ok()) members[r].reset();
  });
}

TEST_F(GlooTest, AMemberWhoseConnectionsAreCutIsNamedAtEveryStep) {
  LoseAtEveryStep({.victim = 2,
                   .victim_is_judged = true,
                   .least_steps = 15,
                   .harmless_steps = 10,  // no connection yet
                   .run = [](LossTrial* trial) { RunWithCut(false, trial); }});
}

TEST_F(GlooTest, AMemberWhosePacketsVanishIsNamedAtEveryStep) {
  LoseAtEveryStep({.victim = 2,
                   .victim_is_judged = true,
                   .least_steps = 15,
                   .harmless_steps = 10,
                   .run = [](LossTrial* trial) { RunWithCut(true, trial); }});
}

TEST_F(GlooTest, AStrangerOnThePortFailsTheFormationAndNoMore) {
  auto rendezvous = std::make_shared<InProcessRendezvous>();
  CommunicatorOptions options = Member("g", 1, 0, 2);
  options.form_timeout = kGlooLoss;
  std::thread first([&] {
    const Status status = CreateGlooCommunicator({.address = "127.0.0.1"}, rendezvous, options).status();
    EXPECT_THAT(std::string(status.message()), HasSubstr("\"m1\"")) << status;
  });
  const std::string text = *rendezvous->Await({"g", 1, 0, "card"}, MonotonicNow() + kLong, AbortFlag());
  const int stranger = ConnectTo(PortOf(*MemberCard::Parse(text), 1));
  ASSERT_GE(stranger, 0);
  const std::string request = "GET / HTTP/1.1\r\nHost: somebody-who-scans-ports\r\nAccept: */*\r\n\r\n";
  EXPECT_EQ(write(stranger, request.data(), request.size()), static_cast<ssize_t>(request.size()));
  options.rank = 1;
  // Of the larger address: Gloo lets this one connect and the other listen.
  const Status second = CreateGlooCommunicator({.address = "127.0.0.5"}, rendezvous, options).status();
  EXPECT_THAT(std::string(second.message()), HasSubstr("\"m0\"")) << second;
  first.join();
  close(stranger);
}

TEST_F(GlooTest, AStrangerThatResetsItsConnectionAtOnceEndsNoProcess) {
  auto rendezvous = std::make_shared<InProcessRendezvous>();
  for (uint64_t epoch = 1; epoch <= 20; ++epoch) {
    CommunicatorOptions options = Member("g", epoch, 0, 8);
    options.abort = std::make_shared<AbortFlag>();
    std::thread member([&] {
      const Status status = CreateGlooCommunicator({.address = "127.0.0.1"}, rendezvous, options).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
    });
    const std::string text = *rendezvous->Await({"g", epoch, 0, "card"}, MonotonicNow() + kLong, AbortFlag());
    for (int rank = 1; rank < 8; ++rank) {
      if (const int fd = ConnectTo(PortOf(*MemberCard::Parse(text), rank)); fd >= 0) ResetConnection(fd);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    options.abort->Raise();
    member.join();
  }
}

TEST_F(GlooTest, ElsewhereAConnectionWithoutAnotherEndIsStillAnError) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  socklen_t n_bytes = sizeof(address);
  errno = 0;
  EXPECT_EQ(getpeername(fd, reinterpret_cast<sockaddr*>(&address), &n_bytes), -1);
  EXPECT_EQ(errno, ENOTCONN);
  close(fd);
  EXPECT_EQ(getpeername(fd, reinterpret_cast<sockaddr*>(&address), &n_bytes), -1);
  EXPECT_EQ(errno, EBADF);
}

TEST_F(GlooTest, AddressesAreThoseOfThisMachine) {
  auto rendezvous = std::make_shared<InProcessRendezvous>();
  const auto join = [&](const std::string& address) {
    static uint64_t epoch = 0;
    return CreateGlooCommunicator({.address = address}, rendezvous, Member("g", ++epoch, 0, 1)).status();
  };
  EXPECT_EQ(join("localhost").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(join("").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(join("192.0.2.1").code(), absl::StatusCode::kUnavailable);  // nobody's
  EXPECT_EQ(join("127.0.0.1"), absl::OkStatus());
  const int six = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
  const bool has_six = six >= 0 && bind(six, reinterpret_cast<sockaddr*>(&loopback), sizeof(loopback)) == 0;
  if (six >= 0) close(six);
  if (has_six) {
    EXPECT_EQ(join("::1"), absl::OkStatus());
  }
}

}  // namespace
}  // namespace coterie::comm_testing
