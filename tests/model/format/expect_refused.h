#ifndef COTERIE_TESTS_MODEL_FORMAT_EXPECT_REFUSED_H_
#define COTERIE_TESTS_MODEL_FORMAT_EXPECT_REFUSED_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "common/status.h"

namespace coterie {

// What most of the refusals are.
inline constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
inline constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
inline constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;

}  // namespace coterie

// The call failed with this code and a message that contains the text.
#define EXPECT_REFUSED(status, status_code, text)                                   \
  do {                                                                              \
    const ::coterie::Status refused_status = (status);                              \
    EXPECT_EQ(refused_status.code(), status_code) << refused_status;                \
    EXPECT_THAT(std::string(refused_status.message()), ::testing::HasSubstr(text)); \
  } while (false)

#endif  // COTERIE_TESTS_MODEL_FORMAT_EXPECT_REFUSED_H_
