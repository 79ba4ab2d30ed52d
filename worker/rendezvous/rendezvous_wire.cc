#include "worker/rendezvous/rendezvous_wire.h"

#include "absl/strings/str_cat.h"
#include "common/random.h"

namespace coterie::worker {

std::string MakeRendezvousToken() {
  return absl::StrCat(absl::Hex(DrawSeed(), absl::kZeroPad16), absl::Hex(DrawSeed(), absl::kZeroPad16));
}

}  // namespace coterie::worker
