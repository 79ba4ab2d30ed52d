#include <signal.h>

#include <thread>

#include "kernels/comm/gloo.h"
#include "kernels/comm/member_card.h"
#include "tests/cluster/process.h"
#include "tests/comm/backends.h"
#include "tests/comm/every_step.h"
#include "tests/comm/script.h"
#include "tests/comm/served_rendezvous.h"
#include "worker/rendezvous/rendezvous_wire.h"

// Members that are processes of their own, over Gloo, and meet at one of them over gRPC.
namespace coterie::comm_testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class CommProcessesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (MakeBackend("gloo") == nullptr) GTEST_SKIP() << "Gloo is not in this build";
    ASSERT_EQ(served_.service().Open("g", token_), absl::OkStatus());
  }

  struct Place {
    std::string server, group = "g";
    uint64_t epoch = 1;
    int rank = 0, n_members = 3;
    absl::Duration timeout = absl::Seconds(60);
    int step = -1, signal = 0;
  };
  std::unique_ptr<cluster::Process> Start(const Place& place, const std::string& token) {
    return std::make_unique<cluster::Process>(
        "comm_member", std::vector<std::string>{place.server.empty() ? served_.address() : place.server,
                                                token, place.group, std::to_string(place.epoch),
                                                std::to_string(place.rank), std::to_string(place.n_members),
                                                std::to_string(absl::ToInt64Milliseconds(place.timeout)),
                                                std::to_string(place.step), std::to_string(place.signal)});
  }
  std::unique_ptr<cluster::Process> Start(const Place& place) { return Start(place, token_); }

  static std::string ServedAt(cluster::Process* leader) {
    const std::string words = "serves ", line = leader->ReadLine(kLong);
    EXPECT_TRUE(line.starts_with(words)) << line;
    return line.starts_with(words) ? line.substr(words.size()) : "127.0.0.1:1";
  }
  // The line by which a process ended; no signal and no exception has ended it.
  static std::string EndOf(cluster::Process* process) {
    std::string line = process->ReadLine(kLong);
    EXPECT_EQ(process->Wait(kLong), 0) << line;
    return line;
  }

  // The victim is a process, the others are threads of this one.
  void RunWithLostProcess(int victim, int signal, LossTrial* trial) {
    const std::string token = worker::MakeRendezvousToken();
    Place place{.group = absl::StrCat("trial ", trial->number),
                .rank = victim,
                .timeout = trial->timeout,
                .step = trial->step,
                .signal = signal};
    if (victim == 0) {
      place.server = "serve";
    } else {
      EXPECT_EQ(served_.service().Open(place.group, token), absl::OkStatus());
    }
    const std::unique_ptr<cluster::Process> process = Start(place, token);
    std::string address = served_.address();
    if (victim == 0) address = ServedAt(process.get());
    OnThreads(3, [&](int rank) {
      if (rank == victim) return;
      auto rendezvous = std::make_shared<worker::RendezvousClient>(
          worker::RendezvousClientOptions{.address = address, .token = token, .server = "member 0 \"m0\""});
      CommunicatorOptions options = Member(place.group, 1, rank, 3);
      options.form_timeout = trial->timeout;
      StatusOr<std::unique_ptr<Communicator>> member =
          CreateGlooCommunicator({.address = "127.0.0.1"}, rendezvous, options);
      trial->results[static_cast<size_t>(rank)] =
          member.ok() ? RunScript(member->get(), {.timeout = trial->timeout}, AllocateOnHost)
                      : member.status();
    });
    const std::string line = process->ReadLine(kLong);
    trial->reached = line == "reached";
    if (!trial->reached && line != "OK") {
      trial->results[static_cast<size_t>(victim)] = absl::DeadlineExceededError(line);
    }
    served_.service().Close(place.group);
  }
  void LoseProcessAtEveryStep(int victim, int signal) {
    LoseAtEveryStep({.victim = victim, .least_steps = 15, .harmless_steps = 6, .run = [&](LossTrial* trial) {
                       RunWithLostProcess(victim, signal, trial);
                     }});
  }

  ServedRendezvous served_;
  const std::string token_ = worker::MakeRendezvousToken();
};

TEST_F(CommProcessesTest, ProcessesMeetAtOneOfThemAndAgree) {
  for (int n_members : {1, 2, 3, 5}) {
    const std::unique_ptr<cluster::Process> leader =
        Start({.server = "serve", .rank = 0, .n_members = n_members});
    const std::string address = ServedAt(leader.get());
    std::vector<std::unique_ptr<cluster::Process>> others;
    for (int rank = 1; rank < n_members; ++rank) {
      others.push_back(Start({.server = address, .rank = rank, .n_members = n_members}));
    }
    EXPECT_EQ(EndOf(leader.get()), "OK");
    for (const auto& other : others) EXPECT_EQ(EndOf(other.get()), "OK");
  }
}

TEST_F(CommProcessesTest, ASlowMemberIsWaitedFor) {
  const auto first = Start({.rank = 0}), second = Start({.rank = 1});
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  const auto last = Start({.rank = 2});
  for (cluster::Process* member : {first.get(), second.get(), last.get()}) EXPECT_EQ(EndOf(member), "OK");
}

TEST_F(CommProcessesTest, AMemberThatNeverComesIsNamed) {
  const auto alone = Start({.rank = 0, .timeout = absl::Milliseconds(500)});
  EXPECT_THAT(EndOf(alone.get()),
              AllOf(HasSubstr("DEADLINE_EXCEEDED"), HasSubstr("member 1 \"m1\" did not come within 500ms")));
}

TEST_F(CommProcessesTest, AMemberOfAnotherVersionIsNamed) {
  const auto member = Start({.rank = 0, .n_members = 2});
  const MemberCard card{
      .version = 2, .backend = "gloo", .group = "g", .epoch = 1, .rank = 1, .members = Names(2)};
  EXPECT_EQ(served_.Client(token_)->Publish({"g", 1, 1, "card"}, card.Encode(), MonotonicNow() + kLong,
                                            AbortFlag()),
            absl::OkStatus());
  EXPECT_THAT(EndOf(member.get()), AllOf(HasSubstr("FAILED_PRECONDITION"),
                                         HasSubstr("member 1 \"m1\" speaks version 2 of our protocol")));
}

TEST_F(CommProcessesTest, ANewerEpochEndsTheFormationOfAnOlderOne) {
  const auto first = Start({.rank = 0}), second = Start({.rank = 1});
  const auto client = served_.Client(token_);
  for (int rank : {0, 1}) {
    EXPECT_EQ(client->Await({"g", 1, rank, "card"}, MonotonicNow() + kLong, AbortFlag()).status(),
              absl::OkStatus());
  }
  std::vector<std::unique_ptr<cluster::Process>> again;
  for (int rank : {0, 1, 2}) again.push_back(Start({.epoch = 2, .rank = rank}));
  for (cluster::Process* member : {first.get(), second.get()}) {
    EXPECT_THAT(EndOf(member), AllOf(HasSubstr("FAILED_PRECONDITION"),
                                     HasSubstr("epoch 1 of group \"g\" is past; it is forming under epoch 2"),
                                     HasSubstr("member 0 \"m0\"")));
  }
  for (const auto& member : again) EXPECT_EQ(EndOf(member.get()), "OK");
}

TEST_F(CommProcessesTest, AProcessWithoutTheTokenIsRefusedAndTheOthersMeet) {
  const auto stranger = Start({.rank = 2}, worker::MakeRendezvousToken());
  EXPECT_THAT(EndOf(stranger.get()), AllOf(HasSubstr("PERMISSION_DENIED"), HasSubstr("no group \"g\"")));
  std::vector<std::unique_ptr<cluster::Process>> members;
  for (int rank : {0, 1, 2}) members.push_back(Start({.rank = rank}));
  for (const auto& member : members) EXPECT_EQ(EndOf(member.get()), "OK");
}

TEST_F(CommProcessesTest, AKilledProcessIsNamedAtEveryStep) { LoseProcessAtEveryStep(1, SIGKILL); }

TEST_F(CommProcessesTest, AStoppedProcessIsNamedAtEveryStep) { LoseProcessAtEveryStep(1, SIGSTOP); }

TEST_F(CommProcessesTest, AKilledLeaderIsNamedAtEveryStep) { LoseProcessAtEveryStep(0, SIGKILL); }

TEST_F(CommProcessesTest, AStoppedLeaderIsNamedAtEveryStep) { LoseProcessAtEveryStep(0, SIGSTOP); }

}  // namespace
}  // namespace coterie::comm_testing
