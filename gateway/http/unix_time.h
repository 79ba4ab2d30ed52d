#ifndef COTERIE_GATEWAY_HTTP_UNIX_TIME_H_
#define COTERIE_GATEWAY_HTTP_UNIX_TIME_H_

#include <cstdint>
#include <string>

// The wall clock, for what other machines read; durations come from common/clock.h.
namespace coterie::gateway::http {

// Seconds since 1970, as `created` of OpenAI's objects counts them.
int64_t UnixSeconds();
// "Mon, 30 Nov 2026 12:00:00 GMT": the Date header.
std::string HttpDate();

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_UNIX_TIME_H_
