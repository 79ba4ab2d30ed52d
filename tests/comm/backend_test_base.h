#ifndef COTERIE_TESTS_COMM_BACKEND_TEST_BASE_H_
#define COTERIE_TESTS_COMM_BACKEND_TEST_BASE_H_

#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "tests/comm/backends.h"

namespace coterie::comm_testing {

// A test of each backend by its name, at whose end nothing may have been done wrong with it.
class BackendTestBase : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    backend_ = MakeBackend(GetParam());
    if (backend_ == nullptr) GTEST_SKIP() << GetParam() << " is not in this build";
  }
  void TearDown() override {
    if (backend_ != nullptr) {
      EXPECT_EQ(backend_->Misuse(), "");
    }
  }

  std::unique_ptr<Backend> backend_;
};

}  // namespace coterie::comm_testing

#endif  // COTERIE_TESTS_COMM_BACKEND_TEST_BASE_H_
