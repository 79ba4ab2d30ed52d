#include "model/lora/packed_folder.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <iostream>
#include <thread>

#include "common/mutex.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/model/lora/packed_adapter.h"

namespace coterie {
namespace {

namespace fs = std::filesystem;
using testing::BytesOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing::TinyPacked;

class PackedFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::path(::testing::TempDir()) / absl::StrCat("packed_", ::getpid(), "_", info->name());
    fs::remove_all(root_);
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  PackedFolderOptions Logged() {
    PackedFolderOptions options;
    options.log = [this](std::string_view words) {
      MutexLock lock(&mutex_);
      words_.emplace_back(words);
    };
    return options;
  }
  std::unique_ptr<PackedFolder> Open(uint64_t max_bytes = 1 << 20) {
    PackedFolderOptions options = Logged();
    options.max_bytes = max_bytes;
    return std::make_unique<PackedFolder>(Folder(), options);
  }
  // On a volume of `files` packed files, of which others take `others`; a tenth is to stay free.
  std::unique_ptr<PackedFolder> OpenOnVolume(uint64_t files, std::atomic<uint64_t>* others) {
    PackedFolderOptions options = Logged();
    options.max_bytes = 1 << 30;
    options.measure_volume = [=, this](const fs::path& folder) -> StatusOr<VolumeSpace> {
      EXPECT_EQ(folder, Folder());
      const uint64_t used = CountFiles() + *others;
      return VolumeSpace{files * file_bytes_, used < files ? (files - used) * file_bytes_ : 0};
    };
    return std::make_unique<PackedFolder>(Folder(), options);
  }
  fs::path Folder() const { return root_ / "packed"; }
  PackedKey Key(std::string_view adapter, std::string_view layout = "l") const {
    return {Sha256(adapter), Sha256(layout)};
  }
  void Save(PackedFolder* folder, const PackedKey& key, bool replace = false) {
    folder->Save(key, tiny_.pairs, tiny_.packed->weights(), replace);
    // Later uses are later ones by the file system's clock, too, whose ticks are milliseconds.
    ::usleep(12'000);
  }
  bool Has(const PackedFolder& folder, const PackedKey& key) const {
    const auto file = folder.Open(key);
    ::usleep(12'000);
    return file.ok() && ParsePackedFile((*file)->bytes(), key, tiny_.base).ok();
  }
  size_t CountFiles() const {
    std::error_code none;
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(Folder(), none), fs::directory_iterator()));
  }
  std::vector<std::string> Words() {
    MutexLock lock(&mutex_);
    return words_;
  }

  fs::path root_;
  const TinyPacked tiny_;
  const uint64_t file_bytes_ = tiny_.file.size();
  Mutex mutex_;
  std::vector<std::string> words_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(PackedFolderTest, WhatWasSavedIsFoundByOthers) {
  const auto writer = Open(), reader = Open();
  EXPECT_EQ(reader->Open(Key("a")).status().code(), absl::StatusCode::kNotFound);
  Save(writer.get(), Key("a"));
  EXPECT_TRUE(Has(*reader, Key("a")));
  EXPECT_EQ(reader->Open(Key("a", "other layout")).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(CountFiles(), 1u);
  EXPECT_THAT(Words(), IsEmpty());
}

TEST_F(PackedFolderTest, TheLeastRecentlyUsedMakeRoom) {
  const auto folder = Open(3 * file_bytes_);
  for (const char* adapter : {"a", "b", "c"}) Save(folder.get(), Key(adapter));
  EXPECT_TRUE(Has(*folder, Key("a")));  // now b is the oldest
  Save(folder.get(), Key("d"));
  EXPECT_EQ(CountFiles(), 3u);
  EXPECT_FALSE(Has(*folder, Key("b")));
  for (const char* adapter : {"a", "c", "d"}) EXPECT_TRUE(Has(*folder, Key(adapter))) << adapter;
  // A lower limit takes effect with the next file.
  Save(Open(file_bytes_).get(), Key("e"));
  EXPECT_EQ(CountFiles(), 1u);
  EXPECT_TRUE(Has(*folder, Key("e")));
  EXPECT_THAT(Words(), IsEmpty());
}

TEST_F(PackedFolderTest, WhatDeadWritersLeftCountsAndGoesFirst) {
  const auto folder = Open(3 * file_bytes_);
  Save(folder.get(), Key("a"));
  ASSERT_TRUE(WriteFileAtomically(Folder() / "new-1a2b3c", std::string(2 * file_bytes_, 'x')).ok());
  ASSERT_TRUE(WriteFileAtomically(Folder() / "README", std::string(9 * file_bytes_, 'x')).ok());
  ::usleep(12'000);
  ASSERT_TRUE(Has(*folder, Key("a")));
  Save(folder.get(), Key("b"));
  EXPECT_FALSE(fs::exists(Folder() / "new-1a2b3c"));
  EXPECT_TRUE(fs::exists(Folder() / "README")) << "not ours";
  EXPECT_TRUE(Has(*folder, Key("a")) && Has(*folder, Key("b")));
}

TEST_F(PackedFolderTest, OldLayoutsOfAnAdapterGo) {
  const auto folder = Open();
  Save(folder.get(), Key("other", "0"));
  for (const char* layout : {"0", "1", "2", "3", "4", "5"}) Save(folder.get(), Key("a", layout));
  EXPECT_EQ(CountFiles(), 5u);
  EXPECT_FALSE(Has(*folder, Key("a", "0")) || Has(*folder, Key("a", "1")));
  EXPECT_TRUE(Has(*folder, Key("a", "2")) && Has(*folder, Key("a", "5")) && Has(*folder, Key("other", "0")));
}

TEST_F(PackedFolderTest, ZeroBytesWritesNoneAndReadsThoseThatAreThere) {
  const auto none = Open(0);
  Save(none.get(), Key("a"));
  EXPECT_FALSE(fs::exists(Folder()));
  Save(Open().get(), Key("a"));
  EXPECT_TRUE(Has(*none, Key("a")));
  EXPECT_THAT(Words(), IsEmpty());
}

TEST_F(PackedFolderTest, ADamagedFileIsReplacedAndNamed) {
  const auto folder = Open();
  Save(folder.get(), Key("a"));
  fs::path path;
  for (const auto& entry : fs::directory_iterator(Folder())) path = entry.path();
  fs::resize_file(path, file_bytes_ - 1);
  EXPECT_FALSE(Has(*folder, Key("a")));
  folder->Refuse(Key("a"), absl::DataLossError("it is short"));
  EXPECT_THAT(Words(),
              ElementsAre(::testing::AllOf(HasSubstr(path.filename().string()), HasSubstr("it is short"))));
  Save(folder.get(), Key("a"), /*replace=*/true);
  EXPECT_TRUE(Has(*folder, Key("a")));
}

TEST_F(PackedFolderTest, WordsAboutDamageAreBounded) {
  const auto folder = Open();
  for (int i = 0; i < 1000; ++i) folder->Refuse(Key("a"), absl::DataLossError("bad"));
  EXPECT_THAT(Words(), SizeIs(16 + 5));  // then 32, 64, 128, 256, 512
}

TEST_F(PackedFolderTest, WhereNothingCanBeWrittenOneWordSaysSo) {
  // As root every folder can be written: a file in its place cannot.
  ASSERT_TRUE(WriteFileAtomically(Folder(), "a file").ok());
  const auto folder = Open();
  for (int i = 0; i < 5; ++i) Save(folder.get(), Key(absl::StrCat(i)));
  EXPECT_THAT(Words(), ElementsAre(HasSubstr("cannot list")));
  EXPECT_NE(folder->Open(Key("a")).status().code(), absl::StatusCode::kOk);
}

TEST_F(PackedFolderTest, AFileLargerThanTheLimitRemovesNothing) {
  Save(Open().get(), Key("a"));
  const auto folder = Open(file_bytes_ - 1);
  for (const char* adapter : {"b", "c"}) Save(folder.get(), Key(adapter));
  EXPECT_EQ(CountFiles(), 1u);
  EXPECT_THAT(Words(), ElementsAre(HasSubstr("--packed-bytes")));
}

TEST_F(PackedFolderTest, ATenthOfTheVolumeStaysFreeForOthers) {
  std::atomic<uint64_t> others = 15;
  const auto folder = OpenOnVolume(20, &others);
  for (const char* adapter : {"a", "b", "c"}) Save(folder.get(), Key(adapter));
  EXPECT_EQ(CountFiles(), 3u);
  EXPECT_TRUE(Has(*folder, Key("a")));  // now b is the oldest
  Save(folder.get(), Key("d"));
  EXPECT_EQ(CountFiles(), 3u);
  EXPECT_FALSE(Has(*folder, Key("b")));
  others = 10;  // others gave some back
  for (const char* adapter : {"e", "f", "g", "h", "i"}) Save(folder.get(), Key(adapter));
  EXPECT_EQ(CountFiles(), 8u);
  EXPECT_THAT(Words(), IsEmpty());
}

TEST_F(PackedFolderTest, FilesGiveWayWhereOthersTakeWhatShouldStayFree) {
  std::atomic<uint64_t> others = 10;
  const auto folder = OpenOnVolume(20, &others);
  for (const char* adapter : {"a", "b", "c", "d", "e", "f", "g", "h"}) Save(folder.get(), Key(adapter));
  ASSERT_EQ(CountFiles(), 8u);
  others = 12;  // the volume is full, and 2 are to be free: 4 of the 8 must go, one more for the new one
  Save(folder.get(), Key("i"));
  EXPECT_EQ(CountFiles(), 6u);
  for (const char* adapter : {"a", "b", "c"}) EXPECT_FALSE(Has(*folder, Key(adapter))) << adapter;
  EXPECT_TRUE(Has(*folder, Key("d")) && Has(*folder, Key("i")));
  EXPECT_THAT(Words(), IsEmpty());
}

TEST_F(PackedFolderTest, OnAVolumeThatOthersFillNothingIsWrittenAndOneWordSaysSo) {
  std::atomic<uint64_t> others = 16;
  const auto folder = OpenOnVolume(20, &others);
  Save(folder.get(), Key("a"));
  others = 19;
  for (const char* adapter : {"b", "c", "d"}) Save(folder.get(), Key(adapter));
  EXPECT_EQ(CountFiles(), 1u);
  EXPECT_TRUE(Has(*folder, Key("a"))) << "removed without any use";
  EXPECT_THAT(Words(), ElementsAre(HasSubstr("the store's volume has no more to spare")));
}

TEST_F(PackedFolderTest, AVolumeThatCannotBeMeasuredIsLeftAlone) {
  PackedFolderOptions options = Logged();
  options.measure_volume = [](const fs::path&) { return absl::UnavailableError("the share is gone"); };
  PackedFolder folder(Folder(), options);
  for (const char* adapter : {"a", "b"}) Save(&folder, Key(adapter));
  EXPECT_EQ(CountFiles(), 0u);
  EXPECT_THAT(Words(), ElementsAre(HasSubstr("the share is gone")));
}

TEST_F(PackedFolderTest, TheVolumeIsMeasured) {
  const auto volume = MeasureVolume(root_);
  ASSERT_TRUE(volume.ok()) << volume.status();
  EXPECT_GT(volume->bytes, 0u);
  EXPECT_LE(volume->free_bytes, volume->bytes);
  EXPECT_EQ(MeasureVolume(root_ / "nowhere").status().code(), absl::StatusCode::kNotFound);
}

// In a process of its own, whose mounts nobody else sees.
TEST_F(PackedFolderTest, AReadOnlyMountServesAllTheSameAndOneWordSaysSo) {
  Save(Open().get(), Key("a"));
  const auto serves = [&] {
    constexpr int kSkipped = 77;
    if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ::_exit(kSkipped);
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount(root_.c_str(), root_.c_str(), nullptr, MS_BIND, nullptr) != 0 ||
        ::mount(nullptr, root_.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) != 0) {
      ::_exit(kSkipped);
    }
    const auto folder = Open();
    bool good = Has(*folder, Key("a"));
    for (const char* adapter : {"b", "c", "d", "e"}) Save(folder.get(), Key(adapter));
    // And where there is no folder yet.
    PackedFolder missing(root_ / "missing", Logged());
    for (const char* adapter : {"a", "b", "c"}) Save(&missing, Key(adapter));
    good &= missing.Open(Key("a")).status().code() == absl::StatusCode::kNotFound;
    for (const std::string& words : Words()) {
      good &= words.find("Read-only file system") != std::string::npos;
      std::cerr << words << "\n";
    }
    good &= Words().size() == 2;  // one of each
    ::_exit(good ? 0 : 1);
  };
  const pid_t child = ::fork();
  if (child == 0) serves();
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "nothing can be mounted here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(CountFiles(), 1u);
}

TEST_F(PackedFolderTest, ADiskThatIsFullLeavesNothingBehind) {
  const auto folder = Open();
  ASSERT_FALSE(Has(*folder, Key("a")));
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {file_bytes_ / 2, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  for (const char* adapter : {"a", "b"}) Save(folder.get(), Key(adapter));
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(CountFiles(), 0u);
  EXPECT_THAT(Words(), ElementsAre(HasSubstr("cannot write")));
  Save(folder.get(), Key("a"));
  EXPECT_TRUE(Has(*folder, Key("a")));
}

TEST_F(PackedFolderTest, ManyWritersAndReadersAtOnceSeeWholeFilesOnly) {
  std::vector<std::thread> threads;
  std::atomic<int> n_whole = 0, n_broken = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const auto folder = Open(4 * file_bytes_);
      for (int i = 0; i < 150; ++i) {
        const PackedKey key = Key(absl::StrCat((i * 7 + t) % 6));
        folder->Save(key, tiny_.pairs, tiny_.packed->weights(), i % 2 == 0);
        const auto file = folder->Open(key);
        if (!file.ok()) continue;  // gone again
        (ParsePackedFile((*file)->bytes(), key, tiny_.base).ok() ? n_whole : n_broken)++;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(n_whole, 0);
  EXPECT_EQ(n_broken, 0);
  Save(Open(4 * file_bytes_).get(), Key("last"));
  EXPECT_LE(CountFiles(), 4u);
  for (const auto& entry : fs::directory_iterator(Folder())) {
    EXPECT_TRUE(PackedFolder::AdapterOf(entry.path()).has_value()) << entry.path();
  }
}

TEST_F(PackedFolderTest, FilesOfRemovedAdaptersAndOfDeadWritersAreSwept) {
  const auto folder = Open();
  for (const char* adapter : {"a", "b"}) Save(folder.get(), Key(adapter));
  ASSERT_TRUE(WriteFileAtomically(Folder() / "new-1a2b3c", "x").ok());
  ASSERT_TRUE(WriteFileAtomically(Folder() / "README", "x").ok());
  PackedFolder::RemoveOrphans(Folder(), [](const Digest& adapter) { return adapter == Sha256("a"); });
  EXPECT_TRUE(Has(*folder, Key("a")));
  EXPECT_FALSE(Has(*folder, Key("b")));
  EXPECT_EQ(CountFiles(), 2u);
  PackedFolder::RemoveOrphans(root_ / "nowhere", [](const Digest&) { return false; });
}

TEST_F(PackedFolderTest, NamesThatAreNotOursAreNobodys) {
  const std::string digest = Sha256("a").ToHex();
  EXPECT_EQ(PackedFolder::AdapterOf("x/" + digest + "-0123456789abcdef.bin"), Sha256("a"));
  for (const std::string& name :
       {digest, digest + ".bin", digest + "-0123456789abcdef.bak", digest + "-0123456789abcde.bin",
        "z" + digest.substr(1) + "-0123456789abcdef.bin", std::string()}) {
    EXPECT_EQ(PackedFolder::AdapterOf(name), std::nullopt) << name;
  }
}

}  // namespace
}  // namespace coterie
