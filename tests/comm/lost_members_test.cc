#include <dirent.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "kernels/comm/member_card.h"
#include "tests/comm/backend_test_base.h"
#include "tests/comm/every_step.h"
#include "tests/comm/script.h"

// What every communicator must do when a member is lost, late, or not who it should be.
namespace coterie::comm_testing {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr absl::Duration kShort = absl::Seconds(6);  // what a lost member costs where nobody waits for it

class CommLossTest : public BackendTestBase {
 protected:
  using Deed = std::function<void(AbortFlag*, const std::atomic<int>& n_others_done)>;

  // The script with one member that does its deed at a step.
  void RunWithLoss(int victim, const Deed& deed, LossTrial* trial) {
    const int n_members = static_cast<int>(trial->results.size());
    std::atomic<int> n_others_done = 0;
    const std::string group = absl::StrCat("trial ", trial->number);
    OnThreads(n_members, [&](int rank) {
      CommunicatorOptions options = Member(group, 1, rank, n_members);
      options.form_timeout = trial->timeout;
      options.abort = std::make_shared<AbortFlag>();
      int step = 0;
      AbortFlag* abort = options.abort.get();
      if (rank == victim) {
        options.on_step = [&, abort](std::string_view) {
          if (step++ != trial->step) return;
          trial->reached = true;
          deed(abort, n_others_done);
        };
      }
      StatusOr<std::unique_ptr<Communicator>> member = backend_->Join(options);
      Status& result = trial->results[static_cast<size_t>(rank)];
      result = member.status();
      if (result.ok()) {
        result = RunScript(member->get(), backend_->Call(rank + 64 * trial->number, trial->timeout),
                           backend_->allocator());
        if (rank != victim) member->reset();
      }
      if (rank != victim) ++n_others_done;
    });
    backend_->rendezvous().Forget(group);
  }
  void LoseAtEveryStep(int victim, const Deed& deed) {
    comm_testing::LoseAtEveryStep(
        {.victim = victim, .run = [&](LossTrial* trial) { RunWithLoss(victim, deed, trial); }});
  }
};

TEST_P(CommLossTest, AMemberThatAbortsIsNamedAtEveryStep) {
  for (int victim : {0, 2}) {
    LoseAtEveryStep(victim, [](AbortFlag* abort, const std::atomic<int>&) { abort->Raise(); });
    backend_ = MakeBackend(GetParam());
  }
}

TEST_P(CommLossTest, AMemberThatStopsIsNamedByTheDeadlineAtEveryStep) {
  LoseAtEveryStep(1, [](AbortFlag*, const std::atomic<int>& n_others_done) {
    while (n_others_done < 2) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  });
}

TEST_P(CommLossTest, AbortFromAnotherThreadEndsTheWait) {
  auto members = Form(backend_.get(), "g", 1, 2);
  ASSERT_FALSE(members.empty());
  const auto sum = [&](size_t r, absl::Duration timeout) {
    const std::shared_ptr<Buffer> data = backend_->Allocate(12);
    return members[r]->AllReduce(data->data(), data->data(), 3, ElementType::kInt32, ReduceOp::kSum,
                                 backend_->Call(static_cast<int>(r), timeout));
  };
  std::thread aborter([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    members[0]->Abort();
  });
  const Status aborted = sum(0, kLong);
  aborter.join();
  EXPECT_EQ(aborted.code(), absl::StatusCode::kCancelled) << aborted;
  const Status again = sum(0, kLong);
  EXPECT_EQ(again.code(), absl::StatusCode::kFailedPrecondition) << again;
  EXPECT_THAT(std::string(again.message()), HasSubstr("new epoch"));
  const Status left = sum(1, kShort);
  EXPECT_EQ(left.code(), absl::StatusCode::kUnavailable) << left;
  EXPECT_THAT(std::string(left.message()), HasSubstr("\"m0\" left the group: aborted by"));
}

TEST_P(CommLossTest, AGroupFormsAgainUnderANewEpochOnly) {
  for (uint64_t epoch : {3, 4, 9}) {
    auto members = Form(backend_.get(), "g", epoch, 2);
    ASSERT_FALSE(members.empty());
    members[1]->Abort();
    OnThreads(2, [&](int rank) {
      const Status lost = RunScript(members[static_cast<size_t>(rank)].get(), backend_->Call(rank, kShort),
                                    backend_->allocator());
      EXPECT_THAT(std::string(lost.message()), HasSubstr("\"m1\""));
    });
  }
  const Status old = backend_->Join(Member("g", 8, 0, 2)).status();
  EXPECT_EQ(old.code(), absl::StatusCode::kFailedPrecondition) << old;
  EXPECT_THAT(std::string(old.message()), HasSubstr("epoch 9"));
}

TEST_P(CommLossTest, AMemberThatNeverComesIsNamed) {
  CommunicatorOptions options = Member("g", 1, 0, 3);
  options.form_timeout = absl::Milliseconds(100);
  const Status alone = backend_->Join(options).status();
  EXPECT_EQ(alone.code(), absl::StatusCode::kDeadlineExceeded) << alone;
  EXPECT_THAT(std::string(alone.message()), HasSubstr("member 1 \"m1\" did not come within 100ms"));
}

TEST_P(CommLossTest, AbortEndsTheFormation) {
  CommunicatorOptions options = Member("g", 1, 0, 2);
  options.abort = std::make_shared<AbortFlag>();
  std::thread aborter([abort = options.abort] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    abort->Raise();
  });
  const Status aborted = backend_->Join(options).status();
  aborter.join();
  EXPECT_EQ(aborted.code(), absl::StatusCode::kCancelled) << aborted;
}

TEST_P(CommLossTest, AMemberThatIsNotWhoItShouldBeIsRefusedByName) {
  const std::string backend = (*backend_->Join(Member("alone", 1, 0, 1)))->capabilities().backend.data();
  const MemberCard good{.backend = backend, .group = "", .epoch = 1, .rank = 1, .members = Names(2)};
  auto refused = [&, epoch = uint64_t{0}](MemberCard card) mutable {
    ++epoch;
    card.group = card.group.empty() ? "g" : card.group;
    card.epoch += epoch - 1;
    EXPECT_EQ(backend_->rendezvous().Publish({"g", epoch, 1, "card"}, card.Encode(), MonotonicNow(), {}),
              absl::OkStatus());
    CommunicatorOptions options = Member("g", epoch, 0, 2);
    options.form_timeout = kShort;
    const Status status = backend_->Join(options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("member 1 \"m1\""));
    return std::string(status.message());
  };
  const auto with = [&](auto change) {
    MemberCard card = good;
    change(card);
    return card;
  };
  EXPECT_THAT(refused(with([](MemberCard& c) { c.version = 2; })), HasSubstr("speaks version 2"));
  EXPECT_THAT(refused(with([](MemberCard& c) { c.members = Names(3); })),
              HasSubstr("a group of 3 members, not of 2"));
  EXPECT_THAT(refused(with([](MemberCard& c) { c.members[0] = "x"; })), HasSubstr("other members"));
  EXPECT_THAT(refused(with([](MemberCard& c) { c.group = "h"; })), HasSubstr("is of group \"h\", not \"g\""));
  EXPECT_THAT(refused(with([](MemberCard& c) { c.epoch = 7; })), HasSubstr("is of epoch"));
  EXPECT_THAT(refused(with([](MemberCard& c) { c.rank = 0; })), HasSubstr("says that it is member 0"));
  EXPECT_THAT(refused(with([](MemberCard& c) { c.backend = "mpi"; })), HasSubstr("uses \"mpi\""));
}

TEST_P(CommLossTest, TwoMembersOfOneRankAreRefused) {
  auto members = Form(backend_.get(), "g", 1, 2);
  const Status second = backend_->Join(Member("g", 1, 1, 2)).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kAlreadyExists) << second;
  EXPECT_THAT(std::string(second.message()), HasSubstr("member 1"));
}

TEST_P(CommLossTest, MembersThatCallDifferentThingsNameEachOther) {
  using Call = std::function<Status(Communicator*, std::byte*, const CallOptions&)>;
  const Call base = [](Communicator* c, std::byte* b, const CallOptions& o) {
    return c->AllReduce(b, b, 5'000, ElementType::kInt32, ReduceOp::kSum, o);
  };
  const std::vector<Call> others = {
      [](auto* c, auto* b, auto& o) {
        return c->AllReduce(b, b, 5'001, ElementType::kInt32, ReduceOp::kSum, o);
      },
      [](auto* c, auto* b, auto& o) {
        return c->AllReduce(b, b, 5'000, ElementType::kFloat32, ReduceOp::kSum, o);
      },
      [](auto* c, auto* b, auto& o) {
        return c->AllReduce(b, b, 5'000, ElementType::kInt32, ReduceOp::kMax, o);
      },
      [](auto* c, auto* b, auto& o) { return c->Broadcast(b, 5'000, ElementType::kInt32, 1, o); },
  };
  uint64_t epoch = 0;
  for (const Call& other : others) {
    auto members = Form(backend_.get(), "g", ++epoch, 3);
    ASSERT_FALSE(members.empty());
    if (!members[0]->capabilities().checks_calls)
      GTEST_SKIP() << "its maker does not check; the deadline ends it";
    OnThreads(3, [&](int rank) {
      const std::shared_ptr<Buffer> data = backend_->Allocate(5'001 * 4 * 3);
      const Status status = (rank == 1 ? other : base)(members[static_cast<size_t>(rank)].get(), data->data(),
                                                       backend_->Call(rank, kLong));
      EXPECT_THAT(status.code(), AnyOf(absl::StatusCode::kInvalidArgument, absl::StatusCode::kUnavailable))
          << status;
      if (rank != 1) {
        EXPECT_THAT(std::string(status.message()), HasSubstr("\"m1\""));
      }
      members[static_cast<size_t>(rank)].reset();
    });
  }
}

TEST_P(CommLossTest, AWrongCallIsRefusedAndSendsNothing) {
  auto members = Form(backend_.get(), "g", 1, 2);
  ASSERT_FALSE(members.empty());
  const std::shared_ptr<Buffer> buffer = backend_->Allocate(64);
  std::byte* const data = buffer->data();
  const CallOptions call = backend_->Call(0, kLong);
  const CommCapabilities can = members[0]->capabilities();
  CallOptions elsewhere = call;
  elsewhere.memory = call.memory == MemoryKind::kHost ? MemoryKind::kDevice : MemoryKind::kHost;
  CallOptions forever = call, never = call;
  forever.timeout = absl::InfiniteDuration();
  never.timeout = absl::ZeroDuration();
  Communicator& member = *members[0];
  const auto code = [](const Status& status) { return status.code(); };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code(member.Broadcast(data, 1, ElementType::kUint8, 2, call)), kInvalid);
  EXPECT_EQ(code(member.Broadcast(data, 1, ElementType::kUint8, -1, call)), kInvalid);
  EXPECT_EQ(code(member.Send(data, 1, ElementType::kUint8, 0, call)), kInvalid);
  EXPECT_EQ(code(member.Send(nullptr, 1, ElementType::kUint8, 1, call)), kInvalid);
  EXPECT_EQ(code(member.AllGather(data, nullptr, 1, ElementType::kUint8, call)), kInvalid);
  EXPECT_EQ(code(member.Broadcast(data, kMaxCommBytes, ElementType::kUint8, 0, call)), kInvalid);
  EXPECT_EQ(code(member.Broadcast(data, 1, ElementType::kUint8, 0, forever)), kInvalid);
  EXPECT_EQ(code(member.Broadcast(data, 1, ElementType::kUint8, 0, never)), kInvalid);
  if (!can.host_memory || !can.device_memory) {
    EXPECT_EQ(code(member.Broadcast(data, 1, ElementType::kUint8, 0, elsewhere)),
              absl::StatusCode::kUnimplemented);
  }
  OnThreads(2, [&](int rank) {
    EXPECT_EQ(RunScript(members[static_cast<size_t>(rank)].get(), backend_->Call(rank, kLong),
                        backend_->allocator()),
              absl::OkStatus());
  });
  CommunicatorOptions options = Member("h", 1, 2, 2);
  EXPECT_EQ(code(backend_->Join(options).status()), kInvalid);
  options = Member("", 1, 0, 2);
  EXPECT_EQ(code(backend_->Join(options).status()), kInvalid);
  options = Member("h", 1, 0, kMaxMembers + 1);
  EXPECT_EQ(code(backend_->Join(options).status()), kInvalid);
}

size_t CountEntries(const char* folder) {
  size_t n = 0;
  DIR* open = opendir(folder);
  while (readdir(open) != nullptr) ++n;  // NOLINT(concurrency-mt-unsafe): a stream of our own
  closedir(open);
  return n;
}

size_t ResidentBytes() {
  size_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * 4096;
}

TEST_P(CommLossTest, AThousandGroupsLeaveNothingBehind) {
  const int n_lanes = 8, n_rounds = 125;
  const auto churn = [&](int n) {
    OnThreads(n_lanes, [&](int lane) {
      for (int round = 0; round < n; ++round) {
        const std::string group = absl::StrCat("lane ", lane, " of ", n);
        auto members = Form(backend_.get(), group, static_cast<uint64_t>(round), 2);
        ASSERT_FALSE(members.empty());
        if (round % 10 == 0) {
          OnThreads(2, [&](int rank) {
            const std::shared_ptr<Buffer> data = backend_->Allocate(40'000);
            EXPECT_EQ(members[static_cast<size_t>(rank)]->AllReduce(data->data(), data->data(), 10'000,
                                                                    ElementType::kInt32, ReduceOp::kSum,
                                                                    backend_->Call(lane * 2 + rank, kLong)),
                      absl::OkStatus());
          });
        }
      }
      backend_->rendezvous().Forget(absl::StrCat("lane ", lane, " of ", n));
    });
  };
  churn(2);
  const size_t n_descriptors = CountEntries("/proc/self/fd");
  const size_t n_threads = CountEntries("/proc/self/task");
  [[maybe_unused]] const size_t resident = ResidentBytes();
  churn(n_rounds);
  // A thread that has been joined stands there for a moment more.
  const MonotonicTime until = MonotonicNow() + kLong;
  while (CountEntries("/proc/self/task") > n_threads && MonotonicNow() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(CountEntries("/proc/self/fd"), n_descriptors);
  EXPECT_EQ(CountEntries("/proc/self/task"), n_threads);
  EXPECT_EQ(backend_->rendezvous().size(), 0u);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(ResidentBytes(), resident + (24 << 20));
#endif
}

INSTANTIATE_TEST_SUITE_P(Backends, CommLossTest, ::testing::ValuesIn(BackendNames()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace coterie::comm_testing
