#ifndef COTERIE_COMMON_WORKER_PROTOCOL_H_
#define COTERIE_COMMON_WORKER_PROTOCOL_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "common/status.h"

// Limits of the stream between a gateway and a worker that both sides hold (coterie/v1/worker.proto says what
// the messages mean; limits of one sequence are in common/sequence.h).
namespace coterie {

inline constexpr uint32_t kWorkerProtocolVersion = 1;
inline constexpr size_t kMaxGatewayIdBytes = 256;
inline constexpr size_t kMaxStreamKeyBytes = 64;

// What a worker says of itself stands in every gateway's log, errors, metrics and status. The worker refuses
// its own flags by the same rules by which a gateway refuses its Hello.
inline constexpr size_t kMaxWorkerWordBytes = 256;  // its id, device, numerics class, incarnation
inline constexpr size_t kMaxServesPatterns = 1024;
inline constexpr size_t kMaxServesPatternBytes = 256;
inline constexpr size_t kMaxEndTokens = 1024;

// Both InvalidArgument, saying what is wrong with the value. A word is UTF-8 on one line, perhaps empty.
Status CheckWorkerWord(std::string_view word);
Status CheckServes(std::span<const std::string> patterns);

// Of the heartbeats that both send at the gateway's pace. Who says nothing for the silence timeout is given
// up; less than two intervals would give up whoever is late once.
inline constexpr absl::Duration kMinHeartbeatInterval = absl::Milliseconds(10);
inline constexpr absl::Duration kMaxHeartbeatInterval = absl::Minutes(1);
inline constexpr int kMinSilentHeartbeats = 2;
inline constexpr absl::Duration kMaxSilenceTimeout = absl::Minutes(10);
// How long sequences outlive a broken connection, on either side.
inline constexpr absl::Duration kMaxReattachGrace = absl::Minutes(10);

// Keys of cached prefixes of one worker, the newest: what it keeps to tell, and what a gateway keeps of them.
inline constexpr size_t kMaxPrefixKeys = 262'144;
// What a gateway reads in one piece; a worker cuts its messages far below it.
inline constexpr size_t kMaxWorkerMessageBytes = size_t{16} << 20;

}  // namespace coterie

#endif  // COTERIE_COMMON_WORKER_PROTOCOL_H_
