#ifndef COTERIE_TESTS_TESTING_SEED_H_
#define COTERIE_TESTS_TESTING_SEED_H_

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>

#include "absl/strings/numbers.h"
#include "common/check.h"
#include "gtest/gtest.h"

namespace coterie::testing {

// Says after a failed test how to draw the same inputs again.
class SeedReporter : public ::testing::EmptyTestEventListener {
 public:
  explicit SeedReporter(uint32_t seed) : seed_(seed) {}
  void OnTestEnd(const ::testing::TestInfo& info) override {
    if (info.result()->Failed()) std::cout << "To repeat it: COTERIE_TEST_SEED=" << seed_ << std::endl;
  }

 private:
  const uint32_t seed_;
};

inline uint32_t ChooseTestSeed() {
  uint32_t seed = std::random_device()();
  if (const char* given = std::getenv("COTERIE_TEST_SEED")) {
    COTERIE_CHECK(absl::SimpleAtoi(given, &seed))
        << "COTERIE_TEST_SEED=" << given << ": must be 0 to 2^32 - 1";
  }
  // Death tests that start this binary again are to draw the same.
  ::setenv("COTERIE_TEST_SEED", std::to_string(seed).c_str(), 1);
  // At once as well: a test that crashes has no end.
  std::cout << "COTERIE_TEST_SEED=" << seed << std::endl;
  ::testing::UnitTest::GetInstance()->listeners().Append(new SeedReporter(seed));  // which takes it over
  return seed;
}

// Seeds random inputs of tests: other ones in every run, the same ones with COTERIE_TEST_SEED in the
// environment.
inline uint32_t TestSeed() {
  static const uint32_t seed = ChooseTestSeed();
  return seed;
}

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_TESTING_SEED_H_
