#include "common/cores.h"

#include <sched.h>

#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

using ::testing::ElementsAre;

TEST(CoresTest, AThreadMayUseWhatItsAffinitySaysAndOthersWhatTheirsSays) {
  const std::vector<int> before = AllowedCores();
  ASSERT_FALSE(before.empty());
  std::vector<int> kept;
  std::thread([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(before.back(), &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    kept = AllowedCores();
  }).join();
  EXPECT_THAT(kept, ElementsAre(before.back()));
  EXPECT_EQ(AllowedCores(), before);
}

}  // namespace
}  // namespace coterie
