#ifndef COTERIE_TESTS_MODEL_STORE_FAILING_STAT_H_
#define COTERIE_TESTS_MODEL_STORE_FAILING_STAT_H_

#include <filesystem>

namespace coterie::testing {

// While it lives, stat(2) of `path` fails with `error_number` as soon as another file stands there than now:
// what a network volume does that loses sight of a file just renamed (ESTALE). A disk cannot be made to do
// it. One at a time, of whatever thread.
class FailingStat {
 public:
  FailingStat(std::filesystem::path path, int error_number);
  ~FailingStat();
  FailingStat(const FailingStat&) = delete;
  FailingStat& operator=(const FailingStat&) = delete;

  // How often it failed: a test that never met the fault shows nothing.
  int n_failures() const;
};

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_MODEL_STORE_FAILING_STAT_H_
