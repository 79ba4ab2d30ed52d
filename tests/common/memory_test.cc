// The limits that a process really has, of machines that are made of files.
#include "common/memory.h"

#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr uint64_t kMb = uint64_t{1} << 20;

class Machine {
 public:
  Machine() {
    std::string pattern = (fs::temp_directory_path() / "coterie_memory_XXXXXX").string();
    root_ = mkdtemp(pattern.data());
    Write("proc/meminfo", "MemTotal: 16777216 kB\nMemFree: 100 kB\nMemAvailable: 8388608 kB\n");
  }
  ~Machine() { fs::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  void Group2(const std::string& path, const std::string& max, uint64_t used, uint64_t cached = 0,
              const std::string& high = "max") {
    Write(path + "/memory.max", max + "\n");
    Write(path + "/memory.high", high + "\n");
    Write(path + "/memory.current", absl::StrCat(used, "\n"));
    Write(path + "/memory.stat", absl::StrCat("anon 5\ninactive_file ", cached, "\nactive_file 0\n"));
  }
  void Group1(const std::string& path, uint64_t max, uint64_t used, uint64_t cached = 0) {
    Write(path + "/memory.limit_in_bytes", absl::StrCat(max, "\n"));
    Write(path + "/memory.usage_in_bytes", absl::StrCat(used, "\n"));
    Write(path + "/memory.stat", absl::StrCat("inactive_file 7\ntotal_inactive_file ", cached, "\n"));
  }
  MemoryRoom room() const { return AvailableMemory(root_); }

 private:
  fs::path root_;
};

constexpr char kMount2[] = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr char kMount1[] =
    "25 20 0:6 / /dev rw - devtmpfs dev rw\n"
    "33 25 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    "34 25 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

TEST(MemoryTest, WithoutGroupsTheMachineDecides) {
  Machine machine;
  EXPECT_EQ(machine.room().bytes, uint64_t{8} << 30);
  EXPECT_THAT(machine.room().limit, HasSubstr("the machine"));
}

TEST(MemoryTest, WhereNothingIsToldNothingIsRefused) {
  EXPECT_EQ(AvailableMemory("/nonexistent").bytes, uint64_t{1} << 63);
}

TEST(MemoryTest, TheTightestOfNestedGroupsCountsWhateverItsLevel) {
  for (const char* tight : {"a", "a/b", "a/b/c"}) {
    Machine machine;
    machine.Write("proc/self/cgroup", "0::/a/b/c\n");
    machine.Write("proc/self/mountinfo", kMount2);
    for (const char* group : {"a", "a/b", "a/b/c"}) {
      const bool is_tight = std::string(group) == tight;
      machine.Group2(absl::StrCat("sys/fs/cgroup/", group), is_tight ? absl::StrCat(512 * kMb) : "max",
                     200 * kMb, 50 * kMb);
    }
    EXPECT_EQ(machine.room().bytes, 362 * kMb) << tight << ": page cache counts as free";
    EXPECT_THAT(machine.room().limit, HasSubstr(absl::StrCat("memory.max of cgroup /", tight, " is 512 MB")));
  }
}

TEST(MemoryTest, HighCountsAndAFullGroupHasNoRoom) {
  Machine machine;
  machine.Write("proc/self/cgroup", "0::/x\n");
  machine.Write("proc/self/mountinfo", kMount2);
  machine.Group2("sys/fs/cgroup/x", "max", 100 * kMb, 0, absl::StrCat(300 * kMb));
  EXPECT_EQ(machine.room().bytes, 200 * kMb);
  machine.Group2("sys/fs/cgroup/x", absl::StrCat(64 * kMb), 100 * kMb);
  EXPECT_EQ(machine.room().bytes, 0u);
}

TEST(MemoryTest, VersionOneIsReadBesideOtherHierarchiesAndItsNoLimitIsNone) {
  Machine machine;
  machine.Write("proc/self/cgroup", "5:cpu,cpuacct:/other\n4:memory:/pod/one\n0::/\n");
  machine.Write("proc/self/mountinfo", kMount1);
  machine.Group1("sys/fs/cgroup/memory", 9223372036854771712u, 900 * kMb);
  machine.Group1("sys/fs/cgroup/memory/pod", 1000 * kMb, 300 * kMb);
  machine.Group1("sys/fs/cgroup/memory/pod/one", 9223372036854771712u, 300 * kMb);
  EXPECT_EQ(machine.room().bytes, 700 * kMb);
  EXPECT_THAT(machine.room().limit, HasSubstr("memory.limit_in_bytes of cgroup /pod"));
}

TEST(MemoryTest, InAContainerTheMountedFolderIsTheGroup) {
  Machine machine;  // the host's path, of which only the container's own folder is mounted
  machine.Write("proc/self/cgroup", "4:memory:/docker/0123\n");
  machine.Write("proc/self/mountinfo",
                "34 25 0:31 /docker/0123 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  machine.Group1("sys/fs/cgroup/memory", 256 * kMb, 56 * kMb);
  EXPECT_EQ(machine.room().bytes, 200 * kMb);
  machine.Write("proc/self/cgroup", "0::/../../elsewhere\n");  // of another namespace
  machine.Write("proc/self/mountinfo", kMount2);
  machine.Group2("sys/fs/cgroup", absl::StrCat(128 * kMb), 28 * kMb);
  EXPECT_EQ(machine.room().bytes, 100 * kMb);
}

TEST(MemoryTest, WhatDoesNotFitIsRefusedWithBothNumbersAndTheLimit) {
  EXPECT_TRUE(CheckMemoryFor(1, "a byte").ok());
  const Status status = CheckMemoryFor(uint64_t{1} << 62, "the KV cache");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("no memory for the KV cache: it takes 4294967296.0 GB"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("are left ("));
}

}  // namespace
}  // namespace coterie
