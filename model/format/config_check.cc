#include "model/format/config_check.h"

namespace coterie {
namespace {

Status Refuse(std::string_view name, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(ToAbsl(name), ": ", ToAbsl(what)));
}

}  // namespace

Status CheckConsistent(const ModelConfig& c, std::string_view name) {
  if (c.n_kv_heads > c.n_heads || c.n_heads % c.n_kv_heads != 0) {
    return Refuse(name, absl::StrCat(c.n_heads, " attention heads cannot share ", c.n_kv_heads,
                                     " key/value heads evenly"));
  }
  if (c.head_dim % 2 != 0) {
    return Refuse(name,
                  absl::StrCat("head dimension is ", c.head_dim, ", rotary embedding needs an even one"));
  }
  if (c.rotary_dim < 0 || c.rotary_dim > c.head_dim || c.rotary_dim % 2 != 0) {
    return Refuse(name, absl::StrCat(c.rotary_dim, " values of a head rotate, expected an even number up to ",
                                     c.head_dim));
  }
  if (c.q_size() > kConfigLimits.max_hidden_size) {
    return Refuse(name, absl::StrCat(c.n_heads, " heads of ", c.head_dim, " are ", c.q_size(),
                                     " wide, the limit is ", kConfigLimits.max_hidden_size));
  }
  const RopeScaling& s = c.rope_scaling;
  if (s.kind == RopeScaling::Kind::kLlama3 && !(s.high_freq_factor > s.low_freq_factor)) {
    return Refuse(name, absl::StrCat("rope scaling llama3: high_freq_factor ", s.high_freq_factor,
                                     " must exceed low_freq_factor ", s.low_freq_factor));
  }
  if (s.kind == RopeScaling::Kind::kYarn && !(s.beta_fast > s.beta_slow)) {
    return Refuse(name, absl::StrCat("rope scaling yarn: beta_fast ", s.beta_fast, " must exceed beta_slow ",
                                     s.beta_slow));
  }
  if (s.kind == RopeScaling::Kind::kLongRope) {
    const auto half = static_cast<size_t>(c.rotated() / 2);
    for (const auto* factors : {&s.short_factors, &s.long_factors}) {
      if (factors->size() == half) continue;
      return Refuse(name, absl::StrCat("rope scaling longrope: ", factors->size(), " factors, expected ",
                                       half, ", one for each pair that rotates"));
    }
  }
  if (s.kind == RopeScaling::Kind::kYarn && c.rope_theta <= 1) {
    return Refuse(name, absl::StrCat("rope scaling yarn: theta is ", c.rope_theta, ", it must exceed 1"));
  }
  return absl::OkStatus();
}

}  // namespace coterie
