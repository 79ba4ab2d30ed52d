#include "common/shutdown_signal.h"

#include <sys/wait.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace coterie {
namespace {

// Runs `body` in a process of its own and returns its exit code, or -1 when it did not exit.
template <typename Body>
int ExitCodeOf(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // whatever goes wrong, it ends
    body();
    _exit(99);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(ShutdownSignalsTest, BeforeServingTheFirstSignalEndsTheProcess) {
  EXPECT_EQ(ExitCodeOf([] {
              ShutdownSignals::Watch();
              kill(getpid(), SIGTERM);
              for (;;) pause();
            }),
            128 + SIGTERM);
}

TEST(ShutdownSignalsTest, TheFirstSignalWhileServingIsReturnedAndTheSecondEndsTheProcess) {
  EXPECT_EQ(ExitCodeOf([] {
              ShutdownSignals* signals = ShutdownSignals::Watch();
              signals->BeginServing();
              if (fork() == 0) {
                kill(getppid(), SIGTERM);
                _exit(0);
              }
              if (signals->WaitForFirst() != SIGTERM) _exit(1);
              kill(getpid(), SIGINT);
              for (;;) pause();
            }),
            128 + SIGINT);
}

TEST(ShutdownSignalsTest, ASignalThatComesBeforeAnybodyWaitsForItIsReturned) {
  EXPECT_EQ(ExitCodeOf([] {
              ShutdownSignals* signals = ShutdownSignals::Watch();
              signals->BeginServing();
              kill(getpid(), SIGTERM);
              // Taken, and so the process would be ending if it were to.
              sigset_t pending;
              do {
                sigpending(&pending);
              } while (sigismember(&pending, SIGTERM) == 1);
              _exit(signals->WaitForFirst() == SIGTERM ? 7 : 8);
            }),
            7);
}

TEST(ShutdownSignalsTest, WakingReturnsWithoutASignalAndTheNextSignalIsStillTheFirst) {
  EXPECT_EQ(ExitCodeOf([] {
              ShutdownSignals* signals = ShutdownSignals::Watch();
              signals->BeginServing();
              signals->Wake();
              if (signals->WaitForFirst() != 0) _exit(1);
              kill(getpid(), SIGTERM);
              while (signals->WaitForFirst() == 0) {
              }
              _exit(signals->WaitForFirst() == SIGTERM ? 7 : 8);
            }),
            7);
}

TEST(ShutdownSignalsTest, NamesTheTwoSignals) {
  EXPECT_STREQ(ShutdownSignalName(SIGTERM), "SIGTERM");
  EXPECT_STREQ(ShutdownSignalName(SIGINT), "SIGINT");
  EXPECT_STREQ(ShutdownSignalName(SIGHUP), "signal");
}

}  // namespace
}  // namespace coterie
