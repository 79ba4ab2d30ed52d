#include "worker/gang/told_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "common/check.h"

namespace coterie {

ToldRows::ToldRows(int vocab_size, uint32_t top_tokens)
    : vocab_size_(static_cast<size_t>(vocab_size)),
      n_told_(top_tokens == 0 ? vocab_size_ : std::min<size_t>(top_tokens, vocab_size_)),
      order_(tells_all() ? 0 : vocab_size_) {}

size_t ToldRows::row_bytes() const {
  return tells_all() ? vocab_size_ * sizeof(float) : n_told_ * sizeof(Told) + sizeof(float);
}

void ToldRows::Pack(std::span<const float> logits, std::span<std::byte> out) {
  COTERIE_CHECK(logits.size() == vocab_size_ && out.size() == row_bytes());
  if (tells_all()) {
    std::memcpy(out.data(), logits.data(), out.size());
    return;
  }
  // No order holds among NaNs: such a row is told by NaNs, whatever else stands in it.
  const bool finite =
      std::all_of(logits.begin(), logits.end(), [](float logit) { return std::isfinite(logit); });
  std::iota(order_.begin(), order_.end(), 0);
  if (finite) {
    std::nth_element(order_.begin(), order_.begin() + static_cast<ptrdiff_t>(n_told_), order_.end(),
                     [&](int32_t a, int32_t b) {
                       const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
                       return x != y ? x > y : a < b;
                     });
    std::sort(order_.begin(), order_.begin() + static_cast<ptrdiff_t>(n_told_));  // for equal bytes anywhere
    std::sort(order_.begin() + static_cast<ptrdiff_t>(n_told_), order_.end());    // for equal sums
  }
  std::byte* to = out.data();
  for (size_t i = 0; i < n_told_; ++i, to += sizeof(Told)) {
    const Told told{order_[i], finite ? logits[static_cast<size_t>(order_[i])] : NAN};
    std::memcpy(to, &told, sizeof(told));
  }
  // ln of the others' mean weight, measured from their largest.
  float largest = -INFINITY;
  for (size_t i = n_told_; i < vocab_size_; ++i) {
    largest = std::max(largest, logits[static_cast<size_t>(order_[i])]);
  }
  double mass = 0;
  for (size_t i = n_told_; i < vocab_size_; ++i) {
    mass += std::exp(static_cast<double>(logits[static_cast<size_t>(order_[i])] - largest));
  }
  const auto n_others = static_cast<double>(vocab_size_ - n_told_);
  const float other = finite ? largest + static_cast<float>(std::log(mass / n_others)) : NAN;
  std::memcpy(to, &other, sizeof(other));
}

Status ToldRows::Unpack(std::span<const std::byte> in, std::span<float> logits,
                        std::span<uint32_t> told) const {
  COTERIE_CHECK(logits.size() == vocab_size_ && in.size() == row_bytes());
  if (tells_all()) {
    std::memcpy(logits.data(), in.data(), in.size());
    std::fill(told.begin(), told.end(), ~uint32_t{0});
    return absl::OkStatus();
  }
  float other;
  std::memcpy(&other, in.data() + n_told_ * sizeof(Told), sizeof(other));
  std::fill(logits.begin(), logits.end(), other);
  for (size_t i = 0; i < n_told_; ++i) {
    Told one;
    std::memcpy(&one, in.data() + i * sizeof(Told), sizeof(one));
    const auto token = static_cast<size_t>(one.token);
    if (one.token < 0 || token >= vocab_size_) {
      return absl::DataLossError(
          absl::StrCat("a member told of token ", one.token, "; the vocabulary has ", vocab_size_));
    }
    logits[token] = one.logit;
    told[token / 32] |= uint32_t{1} << (token % 32);
  }
  return absl::OkStatus();
}

}  // namespace coterie
