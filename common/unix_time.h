#ifndef COTERIE_COMMON_UNIX_TIME_H_
#define COTERIE_COMMON_UNIX_TIME_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "common/status.h"

// The wall clock, for what other machines and people read: dates. Durations come from common/clock.h.
namespace coterie {

// Seconds since 1970, as `created` of OpenAI's objects counts them.
int64_t UnixSeconds();
int64_t UnixNanos();
// "Mon, 30 Nov 2026 12:00:00 GMT": the Date header.
std::string HttpDate();

// "2026-11-30T12:00:00Z", and back; of a date alone its first second is meant. InvalidArgument naming the
// text.
std::string FormatUtc(int64_t unix_seconds);
StatusOr<int64_t> ParseUtc(std::string_view text);

}  // namespace coterie

#endif  // COTERIE_COMMON_UNIX_TIME_H_
