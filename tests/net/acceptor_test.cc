#include "net/acceptor.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <list>

#include "absl/time/clock.h"
#include "common/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/net/raw_client.h"

namespace coterie::net {
namespace {

using ::testing::HasSubstr;
using testing::RawClient;

constexpr absl::Duration kPatience = absl::Seconds(20);

template <typename Condition>
bool Eventually(Condition condition) {
  for (const MonotonicTime until = MonotonicNow() + kPatience; MonotonicNow() < until;) {
    if (condition()) return true;
    absl::SleepFor(absl::Milliseconds(2));
  }
  return condition();
}

// A line opens a connection; one that begins with "x" is wrong.
class Lines final : public ConnectionProtocol {
 public:
  Opening Judge(std::string_view sent) const override {
    if (sent.starts_with("x")) return Opening::kWrong;
    return sent.find('\n') == std::string_view::npos ? Opening::kIncomplete : Opening::kComplete;
  }
  void Take(int fd) override {
    MutexLock lock(&mutex_);
    char line[64];
    const ssize_t n = read(fd, line, sizeof(line));
    taken_.push_back({FileDescriptor(fd), std::string(line, n > 0 ? static_cast<size_t>(n) : 0)});
  }
  std::string Refusal(std::string_view why) const override { return std::string(why); }
  std::vector<IdleConnection> FindIdle() override {
    MutexLock lock(&mutex_);
    std::vector<IdleConnection> idle;
    for (const Taken& taken : taken_) {
      if (!taken.line.starts_with("idle")) continue;
      sockaddr_storage peer{};
      socklen_t length = sizeof(peer);
      getpeername(taken.socket.get(), reinterpret_cast<sockaddr*>(&peer), &length);
      idle.push_back({PeerAddress::FromSockaddr(peer), 1});
    }
    return idle;
  }
  bool StillIdle(int64_t token) override { return token == 1; }

  size_t n_taken() {
    MutexLock lock(&mutex_);
    return taken_.size();
  }
  std::string last_line() {
    MutexLock lock(&mutex_);
    return taken_.empty() ? "" : taken_.back().line;
  }
  void CloseFirst() {
    MutexLock lock(&mutex_);
    taken_.pop_front();
  }

 private:
  struct Taken {
    FileDescriptor socket;
    std::string line;
  };
  Mutex mutex_;
  std::list<Taken> taken_ ABSL_GUARDED_BY(mutex_);
};

class AcceptorTest : public ::testing::Test {
 protected:
  void Start(AcceptorOptions options) {
    auto sockets = Listen("127.0.0.1:0");
    ASSERT_TRUE(sockets.ok()) << sockets.status();
    auto acceptor = Acceptor::Start(*std::move(sockets), std::move(options), &lines_, &registry_);
    ASSERT_TRUE(acceptor.ok()) << acceptor.status();
    acceptor_ = *std::move(acceptor);
  }
  static AcceptorOptions Places(int all, int of_one_client) {
    AcceptorOptions options;
    options.max_connections = all;
    options.max_per_client = of_one_client;
    options.settle = absl::ZeroDuration();
    return options;
  }
  // Connects and has its line taken.
  RawClient Speak(const std::string& line, const char* from = "127.0.0.1") {
    const size_t before = lines_.n_taken();
    RawClient client(acceptor_->port(), from);
    EXPECT_TRUE(client.Send(line + "\n"));
    EXPECT_TRUE(Eventually([&] { return lines_.n_taken() > before; })) << line;
    return client;
  }
  bool Counted(const std::string& reason) {
    return Eventually([&] {
      const std::string page = registry_.Text();
      const std::string begin =
          "coterie_connections_refused_total{listener=\"front\",reason=\"" + reason + "\"} ";
      const size_t at = page.find(begin);
      return at != std::string::npos && page[at + begin.size()] != '0';
    });
  }

  MetricsRegistry registry_;
  Lines lines_;
  std::unique_ptr<Acceptor> acceptor_;
};

TEST_F(AcceptorTest, HandsOverWhatHasSaidItsFirstWordsWholeOrInPieces) {
  Start({});
  Speak("hello");
  EXPECT_EQ(lines_.last_line(), "hello\n");
  RawClient slow(acceptor_->port());
  for (const char* piece : {"h", "el", "lo"}) {
    slow.Send(piece);
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_EQ(lines_.n_taken(), 1u);
  slow.Send(" again\n");
  EXPECT_TRUE(Eventually([&] { return lines_.n_taken() == 2; }));
  EXPECT_EQ(lines_.last_line(), "hello again\n") << "what was looked at is still there to be read";
}

TEST_F(AcceptorTest, ClosesWhatIsSilentForTooLongAndNothingElse) {
  AcceptorOptions options;
  options.silent_timeout = absl::Milliseconds(100);
  Start(options);
  RawClient spoke = Speak("hello");
  RawClient silent(acceptor_->port()), half(acceptor_->port());
  half.Send("hel");
  EXPECT_TRUE(silent.ClosedWithin(kPatience));
  EXPECT_TRUE(half.ClosedWithin(kPatience));
  EXPECT_FALSE(spoke.ClosedWithin(absl::Milliseconds(50)));
  EXPECT_TRUE(Counted("silent"));
}

TEST_F(AcceptorTest, TurnsAwayWhatSpeaksSomethingElse) {
  Start({});
  RawClient wrong(acceptor_->port());
  wrong.Send("x");
  EXPECT_THAT(wrong.ReadAll(), HasSubstr("another protocol"));
  RawClient endless(acceptor_->port());
  endless.Send(std::string(10'000, 'y'));
  EXPECT_TRUE(endless.ClosedWithin(kPatience));
  EXPECT_TRUE(Counted("wrong"));
}

TEST_F(AcceptorTest, TheOldestSilentOneGivesItsPlaceToANewcomer) {
  Start(Places(4, 4));
  std::list<RawClient> silent;
  for (int i = 0; i < 4; ++i) silent.emplace_back(acceptor_->port());
  RawClient honest = Speak("hello");
  EXPECT_TRUE(silent.front().ClosedWithin(kPatience));
  EXPECT_FALSE(silent.back().ClosedWithin(absl::Milliseconds(20)));
}

TEST_F(AcceptorTest, AHundredTimesAsManySilentOnesAsPlacesShutNobodyOut) {
  Start(Places(8, 8));
  std::list<RawClient> silent;
  for (int i = 0; i < 800; ++i) silent.emplace_back(acceptor_->port());
  for (int i = 0; i < 8; ++i) Speak("hello");
}

TEST_F(AcceptorTest, SaysWhyWhenAllPlacesAreInUseAndServesAgainWhenOneIsFree) {
  Start(Places(3, 3));
  std::list<RawClient> busy;
  for (int i = 0; i < 3; ++i) busy.push_back(Speak("busy"));
  RawClient late(acceptor_->port());
  EXPECT_THAT(late.ReadAll(), HasSubstr("holds the 3 that one address may (--max-connections-per-address)"));
  RawClient stranger(acceptor_->port(), "127.0.0.2");
  EXPECT_THAT(stranger.ReadAll(), HasSubstr("all 3 places are in use (--max-connections)"));
  EXPECT_TRUE(Counted("full"));
  lines_.CloseFirst();
  absl::SleepFor(absl::Milliseconds(20));  // it does not look all the time
  Speak("hello");
}

TEST_F(AcceptorTest, OneClientCannotHoldAllPlaces) {
  Start(Places(8, 5));
  std::list<RawClient> busy;
  for (int i = 0; i < 5; ++i) busy.push_back(Speak("busy"));
  RawClient sixth(acceptor_->port());
  EXPECT_THAT(sixth.ReadAll(), HasSubstr("127.0.0.1 holds the 5"));
  EXPECT_TRUE(Counted("client"));
  for (int i = 0; i < 3; ++i) busy.push_back(Speak("hello", "127.0.0.2"));
}

TEST_F(AcceptorTest, AnIdleOneOfWhoeverHoldsMostMakesPlace) {
  Start(Places(5, 5));
  RawClient busy = Speak("busy");
  std::list<RawClient> idle;
  for (int i = 0; i < 3; ++i) idle.push_back(Speak("idle"));
  RawClient other = Speak("idle", "127.0.0.3");
  RawClient honest = Speak("hello", "127.0.0.2");
  EXPECT_TRUE(idle.front().ClosedWithin(kPatience));
  EXPECT_FALSE(busy.ClosedWithin(absl::Milliseconds(20)));
  EXPECT_FALSE(other.ClosedWithin(absl::Milliseconds(20)));
  EXPECT_TRUE(Counted("idle"));
}

TEST_F(AcceptorTest, ListensAgainAfterDescriptorsRanOutAndSpinsMeanwhileForNobody) {
  Start(Places(64, 64));
  RawClient before = Speak("hello");
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  // The clients' ends are open; not one more can be.
  std::vector<FileDescriptor> own;
  for (int i = 0; i < 20; ++i) own.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int highest = open("/dev/null", O_RDONLY | O_CLOEXEC);
  close(highest);
  const rlimit low{static_cast<rlim_t>(highest), limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  sockaddr_in target{};
  target.sin_family = AF_INET;
  target.sin_port = htons(static_cast<uint16_t>(acceptor_->port()));
  target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (const FileDescriptor& socket : own) {
    EXPECT_EQ(connect(socket.get(), reinterpret_cast<const sockaddr*>(&target), sizeof(target)), 0);
  }
  rusage begin{}, end{};
  getrusage(RUSAGE_SELF, &begin);
  EXPECT_TRUE(Counted("descriptors"));
  absl::SleepFor(absl::Seconds(1));
  getrusage(RUSAGE_SELF, &end);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  EXPECT_LT(seconds(end.ru_utime) + seconds(end.ru_stime) - seconds(begin.ru_utime) - seconds(begin.ru_stime),
            0.5);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  own.clear();
  Speak("hello again");
}

TEST_F(AcceptorTest, StopFreesThePortAndLeavesWhatWasHandedOver) {
  Start({});
  RawClient taken = Speak("hello");
  RawClient silent(acceptor_->port());
  acceptor_->Stop();
  EXPECT_TRUE(silent.ClosedWithin(kPatience));
  EXPECT_FALSE(taken.ClosedWithin(absl::Milliseconds(20)));
  EXPECT_TRUE(Listen("127.0.0.1:" + std::to_string(acceptor_->port())).ok());
}

}  // namespace
}  // namespace coterie::net
