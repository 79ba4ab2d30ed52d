#include "gateway/answer/request_log.h"

#include "common/clock.h"
#include "gtest/gtest.h"
#include "tests/testing/captured_log.h"

namespace coterie::gateway {
namespace {

TEST(RequestLogTest, OfFailuresThatAreOursALineASecond) {
  const CapturedLog said;
  RequestLog log;
  const MonotonicTime begin = MonotonicTime::Epoch();
  for (int i = 0; i < 50; ++i) {
    log.Ended("Generate", absl::InternalError("on fire"), begin + i * absl::Milliseconds(100));
  }
  EXPECT_EQ(said.Count("Generate failed: INTERNAL: on fire"), 5u);
  EXPECT_EQ(said.Count("(9 more since the last such line)"), 4u);
}

TEST(RequestLogTest, WhatAClientDidIsNoLine) {
  const CapturedLog said;
  RequestLog log;
  for (const Status& status :
       {absl::OkStatus(), absl::CancelledError(""), absl::InvalidArgumentError("x"),
        absl::ResourceExhaustedError("x"), absl::DeadlineExceededError("x"), absl::NotFoundError("x")}) {
    log.Ended("Generate", status, MonotonicTime::Epoch());
  }
  EXPECT_EQ(said.Count(""), 0u);
}

TEST(RequestLogTest, AMoveHasItsOwnAllowance) {
  const CapturedLog said;
  RequestLog log;
  log.Ended("Score", absl::UnavailableError("no worker"), MonotonicTime::Epoch());
  log.Moved("w1", "w0 is gone", MonotonicTime::Epoch());
  log.Moved("w1", "w0 is gone", MonotonicTime::Epoch());
  EXPECT_EQ(said.Count("an answer continues on w1: w0 is gone"), 1u);
  EXPECT_EQ(said.Count("Score failed: UNAVAILABLE"), 1u);
}

}  // namespace
}  // namespace coterie::gateway
