#include "model/text/incremental_detokenizer.h"

#include <algorithm>
#include <utility>

namespace coterie {
namespace {

// Tokens at each end of a prompt that are decoded to know how the text goes on: its beginning decides what
// was stripped, its end which bytes are still waiting for more. (Decoding all of a long prompt would take
// longer than its tokenisation.)
constexpr size_t kEndTokens = 64;

// Whether the ends tell as much as the whole does.
bool EndsSuffice(const text::TokenDecoder& decoder) {
  const auto& steps = decoder.steps();
  return std::all_of(steps.begin(), steps.end(), [](const text::DecoderStep& step) {
    const auto* strip = std::get_if<text::StripStep>(&step);
    return strip == nullptr || std::max(strip->start, strip->stop) < kEndTokens;
  });
}

}  // namespace

IncrementalDetokenizer::IncrementalDetokenizer(std::shared_ptr<const Tokenizer> tokenizer,
                                               const DetokenizerOptions& options)
    : tokenizer_(std::move(tokenizer)),
      skip_special_(options.skip_special),
      run_(&tokenizer_->decoder(), /*eager=*/true) {
  Skip(options.after);
}

void IncrementalDetokenizer::Skip(std::span<const int32_t> ids) {
  const auto is_shown = [&](int32_t id) { return !tokenizer_->DecoderInput(id, skip_special_).empty(); };
  size_t head = ids.size();
  size_t tail = ids.size();
  if (EndsSuffice(tokenizer_->decoder())) {
    head = 0;
    for (size_t n = 0; head < ids.size() && n < kEndTokens; ++head) n += is_shown(ids[head]) ? 1 : 0;
    for (size_t n = 0; tail > head && n < kEndTokens; --tail) n += is_shown(ids[tail - 1]) ? 1 : 0;
  }
  for (const int32_t id : ids.first(head)) Append(id);
  for (const int32_t id : ids.subspan(tail)) Append(id);
}

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

std::string IncrementalDetokenizer::BytesOf(int32_t id) const {
  const std::string_view token = tokenizer_->DecoderInput(id, skip_special_);
  return token.empty() ? std::string() : run_.BytesOf(token);
}

}  // namespace coterie
