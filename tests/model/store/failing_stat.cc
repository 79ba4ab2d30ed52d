#include "tests/model/store/failing_stat.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>

#include "common/check.h"
#include "common/mutex.h"

namespace coterie::testing {
namespace {

struct Fault {
  std::string path;
  ino_t inode = 0;  // of the file that is still seen; 0: there was none
  int error_number = 0;
  int n_failures = 0;
};

Mutex fault_mutex;
Fault* fault ABSL_GUARDED_BY(fault_mutex) = nullptr;

int RealStat(const char* path, struct stat* info) { return ::fstatat(AT_FDCWD, path, info, 0); }

}  // namespace

FailingStat::FailingStat(std::filesystem::path path, int error_number) {
  struct stat info;
  const ino_t inode = RealStat(path.c_str(), &info) == 0 ? info.st_ino : 0;
  MutexLock lock(&fault_mutex);
  COTERIE_CHECK(fault == nullptr) << "one at a time";
  fault = new Fault{path.string(), inode, error_number};
}

FailingStat::~FailingStat() {
  MutexLock lock(&fault_mutex);
  delete fault;
  fault = nullptr;
}

int FailingStat::n_failures() const {
  MutexLock lock(&fault_mutex);
  return fault->n_failures;
}

}  // namespace coterie::testing

// In place of the C library's, for the whole program of these tests.
extern "C" int stat(const char* __restrict path, struct stat* __restrict info) noexcept {
  using namespace coterie::testing;  // NOLINT(google-build-using-namespace)
  const int result = RealStat(path, info);
  if (result != 0) return result;
  coterie::MutexLock lock(&fault_mutex);
  if (fault == nullptr || fault->path != path || fault->inode == info->st_ino) return result;
  ++fault->n_failures;
  errno = fault->error_number;
  return -1;
}
