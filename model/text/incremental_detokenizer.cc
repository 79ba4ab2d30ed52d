#include "model/text/incremental_detokenizer.h"

#include <utility>

namespace coterie {

IncrementalDetokenizer::IncrementalDetokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special)
    : tokenizer_(std::move(tokenizer)),
      skip_special_(skip_special),
      run_(&tokenizer_->decoder(), /*eager=*/true) {}

std::string IncrementalDetokenizer::Append(int32_t id) {
  std::string out;
  const std::string_view token = tokenizer_->DecoderInput(id, skip_special_);
  if (!token.empty()) run_.Push(token, &out);
  return out;
}

std::string IncrementalDetokenizer::Flush() {
  std::string out;
  run_.Finish(&out);
  return out;
}

}  // namespace coterie
