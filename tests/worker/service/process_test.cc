// coterie-worker as a person starts it: words for what is wrong, and a gentle end.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/exit_code.h"
#include "common/file.h"
#include "common/worker_protocol.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/gpu/drivers/stand_in_driver.h"
#include "tests/worker/service/test_gateway.h"
#include "worker/cores.h"

namespace coterie::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A coterie-worker whose output goes to files.
class Process {
 public:
  explicit Process(std::vector<std::string> args) {
    std::string pattern = (std::filesystem::temp_directory_path() / "coterie_process_XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    static constexpr const char* kProgram = COTERIE_BINARY_DIR "/coterie-worker";
    std::vector<char*> argv = {const_cast<char*>(kProgram)};
    for (std::string& arg : args) argv.push_back(arg.data());
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(open((folder_ + "/out").c_str(), O_CREAT | O_WRONLY, 0600), STDOUT_FILENO);
      dup2(open((folder_ + "/err").c_str(), O_CREAT | O_WRONLY, 0600), STDERR_FILENO);
      execv(kProgram, argv.data());
      _exit(127);
    }
  }
  ~Process() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    std::filesystem::remove_all(folder_);
  }

  void Signal(int signal) { kill(pid_, signal); }
  // Its exit status, or -1 for one that had to be killed.
  int Wait() {
    for (int i = 0; i < 3000; ++i) {
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      }
      absl::SleepFor(absl::Milliseconds(10));
    }
    return -1;
  }
  std::string Output(const std::string& stream) {
    return ReadFile(folder_ + "/" + stream, 1 << 20).value_or("");
  }
  // The address it printed, once it listens.
  std::string Address() {
    for (int i = 0; i < 2000; ++i) {
      const std::string out = Output("out");
      const size_t at = out.find("listening ");
      const size_t end = out.find('\n');
      if (at != std::string::npos && end != std::string::npos) return out.substr(at + 10, end - at - 10);
      absl::SleepFor(absl::Milliseconds(10));
    }
    ADD_FAILURE() << "it does not listen: " << Output("err");
    return "";
  }

 private:
  std::string folder_;
  pid_t pid_ = -1;
};

std::string TinyLlama() { return COTERIE_SOURCE_DIR "/tests/data/tiny-llama"; }

struct Refusal {
  std::vector<std::string> args;
  int status;
  std::string message;
};

TEST(ProcessTest, WhatIsWrongIsNamedInWords) {
  TestWorker taken;
  const Refusal refusals[] = {
      {{}, 2, "--model is missing"},
      {{"--fake", "--device", "tpu"}, 2, "--device=tpu: must be cpu, auto or cuda:N, such as cuda:0"},
      {{"--fake", "--device", "cuda"}, 2, "--device=cuda: must be cpu, auto or cuda:N"},
      {{"--fake", "--id", "w\xff"}, 2, R"(--id: "w\xff" holds bytes that are not UTF-8)"},
      {{"--fake", "--id", "w\n1"}, 2, R"(--id: "w\n1" holds)"},
      {{"--fake", "--id", std::string(kMaxWorkerWordBytes + 1, 'w')}, 2, "has 257 bytes, the limit is 256"},
      {{"--fake", "--serves", "law-*,\xff"}, 2, R"(--serves: "\xff" holds bytes that are not UTF-8)"},
      {{"--fake", "--serves", std::string(kMaxServesPatternBytes + 1, '*')},
       2,
       "has 257 bytes, the limit is 256"},
      {{"--fake", "--serves", absl::StrJoin(std::vector<std::string>(kMaxServesPatterns + 1, "a"), ",")},
       2,
       "--serves: 1025 patterns, the limit is 1024"},
      {{"--fake", "--mod", "x"}, 2, "unknown flag --mod; did you mean --mode?"},
      {{"--fake", "--max-seqs=64", "--max-batch-tokens=64"},
       2,
       "--max-batch-tokens=64: must be above --max-seqs"},
      {{"--fake", "--max-seqs=64", "--max-logit-rows=32"},
       2,
       "--max-logit-rows=32: must be at least --max-seqs"},
      {{"--model", "/no/such.gguf"}, 1, "/no/such.gguf does not exist"},
      {{"--model", TinyLlama(), "--weights=fp8"},
       1,
       "--weights=fp8 on cpu: a CPU holds weights of floats as-is, as q8_0 or as q4_1"},
      {{"--model", TinyLlama(), "--weights=q5_0"}, 2, "--weights"},
      {{"--fake", "--store", "/no/such/store"}, 1, "/no/such/store"},
      {{"--fake", "--cores", "0-x"}, 1, "--cores: \"0-x\" is not a core"},
      {{"--fake", "--cores", "1000"}, 1, "this process may use"},
      {{"--fake", "--listen", taken.address()}, 1, "cannot listen on " + taken.address()},
  };
  for (const Refusal& refusal : refusals) {
    Process process(refusal.args);
    EXPECT_EQ(process.Wait(), refusal.status) << refusal.message;
    EXPECT_THAT(process.Output("err"), HasSubstr(refusal.message));
  }
}

TEST(ProcessTest, TheLogSaysHowWeightsOfFloatsAreHeld) {
  const struct {
    std::vector<std::string> flags;
    std::string numerics_class;
  } cases[] = {{{}, "cpu/4 fast a32 kv=bf16 w=q8_0"},
               {{"--weights=q4_1"}, "cpu/4 fast a32 kv=bf16 w=q4_1"},
               {{"--weights=as-is"}, "cpu/4 fast a32 kv=bf16"},
               {{"--mode=exact"}, "cpu/4 exact kv=f32"},
               {{"--mode=exact", "--weights=q8_0"}, "cpu/4 exact kv=f32 w=q8_0"}};
  for (const auto& c : cases) {
    std::vector<std::string> args = {"--model", TinyLlama(), "--listen=127.0.0.1:0"};
    args.insert(args.end(), c.flags.begin(), c.flags.end());
    Process process(args);
    process.Address();
    const std::string log = process.Output("err");
    EXPECT_THAT(log, HasSubstr(", " + c.numerics_class + ") is ready"));
    const bool rounded = c.numerics_class.find("w=") != std::string::npos;
    EXPECT_EQ(log.find("23 matrices of floats were rounded to") != std::string::npos, rounded) << log;
  }
}

TEST(ProcessTest, HelpNamesEveryFlagAndItsDefault) {
  Process process({"--help"});
  EXPECT_EQ(process.Wait(), 0);
  const std::string help = process.Output("out");
  for (const char* text :
       {"--model PATH", "--listen HOST:PORT", "(default 127.0.0.1:7601)", "--kv-tokens N"}) {
    EXPECT_THAT(help, HasSubstr(text));
  }
}

TEST(ProcessTest, SigtermLetsAnswersFinishAndEndsCleanly) {
  Process process({"--fake", "--listen=127.0.0.1:0", "--metrics-port=0", "--fake-step-time=2ms"});
  TestGateway gateway(process.Address());
  ASSERT_TRUE(gateway.Connect());
  EXPECT_THAT(process.Output("out"), HasSubstr("metrics "));
  gateway.Submit(1, Prompt(20, 1), 200);
  for (int i = 0; i < 1000 && gateway.Of(1).tokens.empty(); ++i) absl::SleepFor(absl::Milliseconds(2));
  process.Signal(SIGTERM);
  ASSERT_TRUE(gateway.WaitFinished(1));
  EXPECT_EQ(gateway.Of(1).tokens.size(), 200u);
  EXPECT_EQ(process.Wait(), 0);
  ASSERT_TRUE(gateway.WaitClosed());
}

TEST(ProcessTest, ASecondSignalEndsAtOnce) {
  Process process({"--fake", "--listen=127.0.0.1:0", "--fake-step-time=100ms"});
  TestGateway gateway(process.Address());
  ASSERT_TRUE(gateway.Connect());
  gateway.Submit(1, Prompt(20, 1), 2000);
  for (int i = 0; i < 1000 && gateway.Of(1).tokens.empty(); ++i) absl::SleepFor(absl::Milliseconds(5));
  process.Signal(SIGINT);
  absl::SleepFor(absl::Milliseconds(300));
  process.Signal(SIGINT);
  EXPECT_EQ(process.Wait(), 128 + SIGINT);
}

TEST(ProcessTest, ALostDeviceEndsTheProcessWithItsOwnExitCode) {
  Process process(
      {"--fake", "--listen=127.0.0.1:0", "--fake-step-time=2ms", "--fake-lose-device-at=30", "--id=w"});
  TestGateway gateway(process.Address());
  ASSERT_TRUE(gateway.Connect());
  gateway.Submit(1, Prompt(20, 1), 2000);
  ASSERT_TRUE(gateway.WaitFinished(1));
  EXPECT_THAT(gateway.Of(1).last.error_message(), HasSubstr("worker w lost its device: the fake device"));
  EXPECT_GT(gateway.Of(1).tokens.size(), 20u);
  EXPECT_EQ(process.Wait(), kDeviceLostExitCode);
  EXPECT_THAT(process.Output("err"), HasSubstr("device cpu is lost: the fake device was lost at step 30"));
  EXPECT_THAT(process.Output("err"), HasSubstr("1 sequences handed over"));
}

TEST(ProcessTest, ADeviceLostWhileTheGatewayIsAwayEndsTheProcessAllTheSame) {
  Process process({"--fake", "--listen=127.0.0.1:0", "--fake-step-time=5ms", "--fake-lose-device-at=200",
                   "--reattach-grace=1m"});
  {
    TestGateway gateway(process.Address());
    ASSERT_TRUE(gateway.Connect());
    gateway.Submit(1, Prompt(20, 1), 2000);
    ASSERT_TRUE(gateway.WaitTokens(1, 1));
  }
  EXPECT_EQ(process.Wait(), kDeviceLostExitCode);
}

// Sets a variable of the environment for the processes started meanwhile.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) { setenv(name, value.c_str(), 1); }
  ~Variable() { unsetenv(name_); }

 private:
  const char* const name_;
};

TEST(ProcessTest, ADeviceThatCannotBeUsedEndsTheStartAndSaysWhy) {
  const StandInDriver driver("device cc=75 name=T4 pci=0000:3B:00.0\n");
  const Variable folder("COTERIE_DRIVER_FOLDER", driver.folder());
  for (const auto& [device, words] :
       {std::pair("cuda:0", "--device=cuda:0: cuda:0 (T4) has compute capability 7.5; at least 8.0"),
        std::pair("cuda:1", "--device=cuda:1: there is no such device: the driver shows 1 (cuda:0)")}) {
    Process process({"--fake", "--listen=127.0.0.1:0", "--device", device});
    EXPECT_EQ(process.Wait(), 1);
    EXPECT_THAT(process.Output("err"), HasSubstr(words));
  }
  Process listing({"--fake", "--list-devices"});
  EXPECT_EQ(listing.Wait(), 0);
  EXPECT_THAT(listing.Output("out"), HasSubstr("cuda:0 unusable cuda:0 (T4) has compute capability 7.5"));
  EXPECT_THAT(listing.Output("out"), HasSubstr("\ncpu usable "));
}

#ifdef COTERIE_EMULATED_GPU
TEST(ProcessTest, FastPrefillWithoutItsLibraryEndsTheStartAndSaysWhatToDo) {
  const Variable without("COTERIE_EMULATION_WITHOUT_CUBLASLT", "1");
  const std::string model = COTERIE_SOURCE_DIR "/tests/data/tiny-llama.gguf";
  Process process({"--model", model, "--device=cuda:0", "--listen=127.0.0.1:0", "--gpu-prefill=fast"});
  EXPECT_EQ(process.Wait(), 1);
  for (const char* words : {"--gpu-prefill=fast: cuBLASLt is not on this machine", "LD_LIBRARY_PATH",
                            "or use --gpu-prefill=invariant"}) {
    EXPECT_THAT(process.Output("err"), HasSubstr(words));
  }
  EXPECT_EQ(process.Output("out"), "") << "it did not serve without";
}
#endif

TEST(ProcessTest, AWorkerLeavesWhenTheDriverCallsItsGpuLostThoughTheStepHangs) {
  const std::string device = "device cc=90 name=H200 pci=0000:3B:00.0 memory_mb=2048 used_mb=512";
  const StandInDriver driver(device + "\n");
  const Variable folder("COTERIE_DRIVER_FOLDER", driver.folder());
  // The step hangs, as it may on a GPU that fell off the bus: the engine's thread says nothing more.
  Process process({"--fake", "--device=auto", "--listen=127.0.0.1:0", "--fake-step-time=2ms",
                   "--fake-hang-device-at=30", "--id=w"});
  TestGateway gateway(process.Address());
  ASSERT_TRUE(gateway.Connect());
  EXPECT_EQ(gateway.Hello().device(), "cuda:0");
  gateway.Submit(1, Prompt(20, 1), 2000);
  ASSERT_TRUE(gateway.WaitTokens(1, 20));
  driver.Write(device + " lost=1\n");
  ASSERT_TRUE(gateway.WaitFinished(1));
  EXPECT_THAT(gateway.Of(1).last.error_message(), HasSubstr("worker w lost its device"));
  EXPECT_EQ(process.Wait(), kDeviceLostExitCode);
  EXPECT_THAT(process.Output("err"), HasSubstr("device cuda:0: H200, compute capability 9.0"));
  EXPECT_THAT(process.Output("err"), HasSubstr("device cuda:0 is lost: the GPU has fallen off the bus"));
}

TEST(ProcessTest, AStepThatNeverEndsOnAGpuEndsTheWorker) {
  const StandInDriver driver("device cc=90 name=H200 pci=0000:3B:00.0\n");
  const Variable folder("COTERIE_DRIVER_FOLDER", driver.folder());
  Process process({"--fake", "--device=cuda:0", "--listen=127.0.0.1:0", "--fake-step-time=2ms",
                   "--fake-hang-device-at=30", "--device-timeout=3s"});
  TestGateway gateway(process.Address());
  ASSERT_TRUE(gateway.Connect());
  gateway.Submit(1, Prompt(20, 1), 2000);
  ASSERT_TRUE(gateway.WaitFinished(1));
  EXPECT_THAT(gateway.Of(1).last.error_message(), HasSubstr("step 30 has not ended after 3s"));
  EXPECT_EQ(process.Wait(), kDeviceLostExitCode);
}

TEST(CoresTest, ListsAndRangesAreRead) {
  EXPECT_THAT(ParseCores("0-3,8").value(), ElementsAre(0, 1, 2, 3, 8));
  EXPECT_THAT(ParseCores("5,5,1").value(), ElementsAre(1, 5));
  for (const char* bad : {"", "x", "3-1", "-1", "1-", "1,,2", "99999"})
    EXPECT_FALSE(ParseCores(bad).ok()) << bad;
}

}  // namespace
}  // namespace coterie::worker
