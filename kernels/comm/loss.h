#ifndef COTERIE_KERNELS_COMM_LOSS_H_
#define COTERIE_KERNELS_COMM_LOSS_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "common/status.h"

namespace coterie {

// Why a group is finished, and through whom. The member that finds out tells the others as it leaves (its
// farewell), so that all name the member at fault and not the one that noticed first.
struct Loss {
  absl::StatusCode code = absl::StatusCode::kUnavailable;
  int rank = -1;       // the member at fault; -1: not known
  std::string reason;  // names that member

  Status ToStatus() const;  // LostMember() finds the rank in it

  // A farewell as bytes, at most kMaxBytes, and back; a text that is none gives a Loss that says so.
  static constexpr size_t kMaxBytes = 256;
  // The code of a farewell without a loss: the member was done with the group.
  static constexpr absl::StatusCode kEnded = absl::StatusCode::kAborted;
  std::string Encode() const;
  static Loss Parse(std::string_view text);
};

// The rank of the member through which a call or a formation failed; nothing where that is not known.
std::optional<int> LostMember(const Status& status);

// 'member 2 "worker-c"'.
std::string MemberName(int rank, const std::vector<std::string>& members);

// What `self` makes of the farewell of `peer`: who is lost.
Loss LossFromFarewell(const Loss& farewell, int peer, int self, const std::vector<std::string>& members);

Loss LossFromAbort(int rank, const std::vector<std::string>& members);

// The device of `rank` failed with this CUresult, or is out of memory.
Loss LossFromDevice(int error, int rank, const std::vector<std::string>& members);

// `silent` are the members that did not answer in time; at least one.
Loss LossFromSilence(const std::vector<int>& silent, absl::Duration waited,
                     const std::vector<std::string>& members);

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_LOSS_H_
