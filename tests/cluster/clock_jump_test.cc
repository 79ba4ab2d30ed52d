// Somebody sets the wall clock while answers are under way: nothing is lost, and no time-out comes early or
// late.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>

#include "common/clock.h"
#include "net/grpc_time.h"
#include "tests/cluster/cluster_fixture.h"

namespace coterie::cluster {
namespace {

constexpr size_t kTokensBeforeJump = 20;

// The wall clock of the processes started with its environment (tests/clock_shift).
class WallClock {
 public:
  WallClock() : path_(absl::StrCat(::testing::TempDir(), "/clock_shift_", getpid())) {
    const int fd = open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    EXPECT_EQ(ftruncate(fd, sizeof(int64_t)), 0);
    void* const page = mmap(nullptr, sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    EXPECT_NE(page, MAP_FAILED);
    shift_ns_ = static_cast<std::atomic<int64_t>*>(page);
  }
  ~WallClock() {
    munmap(shift_ns_, sizeof(int64_t));
    unlink(path_.c_str());
  }

  std::vector<std::string> environment() const {
    return {"LD_PRELOAD=" COTERIE_BINARY_DIR "/clock_shift.so", "COTERIE_CLOCK_SHIFT=" + path_};
  }
  // Away from the true time.
  void Set(absl::Duration shift) { shift_ns_->store(absl::ToInt64Nanoseconds(shift)); }

 private:
  const std::string path_;
  std::atomic<int64_t>* shift_ns_ = nullptr;
};

class ClockJumpTest : public ClusterTest {
 protected:
  void SetUp() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "a library that shifts the clock cannot be loaded before a sanitizer's own";
#endif
    ClusterTest::SetUp();
    Surround({clock_.environment()});
    workers_.push_back(StartWorker("w0"));
    workers_.push_back(StartWorker("w1"));
    gateway_ = StartGateway({workers_[0]->address(), workers_[1]->address()});
    v1::PublishExpertResponse published;
    ASSERT_TRUE(Publish(*gateway_, {}, &published).ok());
  }

  // Asks while the clock goes to `shifts`, one after the other; every answer is the undisturbed one.
  void AskWhileTheClockGoes(const std::vector<absl::Duration>& shifts) {
    std::vector<v1::GenerateRequest> requests = Questions("one", 8);
    for (size_t i = 1; i < requests.size(); i += 2) requests[i].set_expert("base");
    const std::vector<std::string> expected = AskAll(*gateway_, requests);
    Asking asking({gateway_->generation.get()}, requests);
    for (size_t i = 0; i < shifts.size(); ++i) {
      ASSERT_TRUE(asking.WaitForTokens((i + 1) * kTokensBeforeJump));
      clock_.Set(shifts[i]);
    }
    EXPECT_EQ(Texts(asking.Join()), expected);
    for (const Answer& answer : asking.Join()) {
      EXPECT_TRUE(answer.notices.empty()) << answer.notices[0].ShortDebugString();
      EXPECT_LT(answer.finish.timings().total_seconds(), 60);
      EXPECT_GE(answer.finish.timings().total_seconds(), 0);
    }
    EXPECT_EQ(MetricSum(gateway_->Metrics(), "coterie_failovers_total"), 0);
    EXPECT_TRUE(gateway_->Ready(2));
  }

  // A call whose client gives it a second is given up by the gateway and its worker after about that long.
  void ExpectDeadlinesHold() {
    grpc::ClientContext context;
    context.set_deadline(net::GrpcDeadline(absl::Seconds(1)));
    const MonotonicTime begin = MonotonicNow();
    const Answer answer =
        gateway::testing::Ask(gateway_->generation.get(), Question("base", 1, 200), nullptr, &context);
    const absl::Duration took = MonotonicNow() - begin;
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED)
        << answer.status.error_message();
    EXPECT_GE(took, absl::Milliseconds(900));
    EXPECT_TRUE(Eventually(
        [&] {
          return MetricSum(workers_[0]->Metrics(), "coterie_worker_sequences_running") +
                     MetricSum(workers_[1]->Metrics(), "coterie_worker_sequences_running") ==
                 0;
        },
        absl::Seconds(20)));
  }

  void ExpectALostWorkerComesBack() {
    workers_[0]->process->Kill();
    EXPECT_TRUE(gateway_->Ready(1));
    workers_[0] = StartWorker("w0", {}, workers_[0]->address());
    EXPECT_TRUE(gateway_->Ready(2));
    AskWhileTheClockGoes({});
  }

  WallClock clock_;
  std::vector<std::unique_ptr<WorkerProcess>> workers_;
  std::unique_ptr<GatewayProcess> gateway_;
};

TEST_F(ClockJumpTest, AnHourForthAndBackLosesNoAnswerAndNoWorker) {
  AskWhileTheClockGoes({absl::Hours(1), absl::ZeroDuration(), -absl::Hours(1), absl::ZeroDuration()});
}

TEST_F(ClockJumpTest, ForthDeadlinesHoldAndALostWorkerComesBack) {
  AskWhileTheClockGoes({absl::Hours(1)});
  ExpectDeadlinesHold();
  ExpectALostWorkerComesBack();
}

TEST_F(ClockJumpTest, BackDeadlinesHoldAndALostWorkerComesBack) {
  AskWhileTheClockGoes({-absl::Hours(1)});
  EXPECT_TRUE(Eventually([&] {
    return gateway_->process->Errors().find("the wall clock was set back by 1h") != std::string::npos;
  }));
  ExpectDeadlinesHold();
  ExpectALostWorkerComesBack();
}

}  // namespace
}  // namespace coterie::cluster
