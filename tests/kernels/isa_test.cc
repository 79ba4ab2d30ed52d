#include "kernels/cpu/isa.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

namespace coterie::testing {
namespace {

TEST(InstructionSets, ThoseThatTheCallerExpectsAreTried) {
  std::string names;
  for (const cpu::KernelTable* table : cpu::AvailableKernels()) names += std::string(" ") + table->name;
  GTEST_LOG_(INFO) << "tried here:" << names;
  EXPECT_TRUE(names.ends_with(" portable")) << names;
  const char* expected =
      std::getenv("COTERIE_EXPECT_ISA");  // names with blanks between, as tests/arm/check says
  std::istringstream words(expected == nullptr ? "" : expected);
  for (std::string word; words >> word;) {
    EXPECT_TRUE(cpu::SelectKernels(word).ok()) << word << " is missing; there are" << names;
  }
}

}  // namespace
}  // namespace coterie::testing
