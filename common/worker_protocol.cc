#include "common/worker_protocol.h"

#include "common/quoted.h"

namespace coterie {
namespace {

// UTF-8 of at most `max_bytes`, without characters that would break a line of a log or steer a terminal.
Status CheckWord(std::string_view word, size_t max_bytes) {
  if (word.size() > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(word), " has ", word.size(), " bytes, the limit is ", max_bytes));
  }
  if (Shown(word, max_bytes) != word) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(word), " holds bytes that are not UTF-8, or characters that cannot be printed"));
  }
  return absl::OkStatus();
}

}  // namespace

Status CheckWorkerWord(std::string_view word) { return CheckWord(word, kMaxWorkerWordBytes); }

Status CheckServes(std::span<const std::string> patterns) {
  if (patterns.size() > kMaxServesPatterns) {
    return absl::InvalidArgumentError(
        absl::StrCat(patterns.size(), " patterns, the limit is ", kMaxServesPatterns));
  }
  for (const std::string& pattern : patterns) {
    RETURN_IF_ERROR(CheckWord(pattern, kMaxServesPatternBytes));
  }
  return absl::OkStatus();
}

}  // namespace coterie
