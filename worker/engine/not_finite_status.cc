#include "worker/engine/not_finite_status.h"

#include "absl/strings/str_join.h"
#include "common/quoted.h"

namespace coterie {

Status NotFiniteStatus(const SequenceRequest& request, const std::string& place) {
  const std::string what = absl::StrCat("the model's logits at ", place, " are not finite numbers");
  if (request.adapters.empty()) {
    return absl::InternalError(absl::StrCat(
        what,
        " although no expert takes part: the base's weights, or this worker's memory, are damaged; "
        "compare the base's files with their source and start the worker again"));
  }
  const bool mixture = request.mixture.size() > 1;
  std::vector<std::string> experts;
  for (const AdapterUse& use : request.adapters) {
    experts.push_back(absl::StrCat(use.name.empty() ? "" : absl::StrCat(Quoted(use.name), " "), "(adapter ",
                                   use.digest.Short(),
                                   mixture ? ")" : absl::StrCat(", weight ", use.weight, ")")));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      what, " under ", mixture ? "a mixture of " : "", experts.size() == 1 ? "expert " : "experts ",
      absl::StrJoin(experts, " and "), ": with this prompt the activations leave float32's range; ask ",
      mixture ? "without the one that diverged" : "with a smaller weight or another expert",
      ", and publish a version whose training did not diverge"));
}

}  // namespace coterie
