#ifndef COTERIE_COMMON_PREFIX_KEY_H_
#define COTERIE_COMMON_PREFIX_KEY_H_

#include <compare>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "common/gate.h"

namespace coterie {

// Tokens per key: the KV block size, the unit in which prefixes are shared.
inline constexpr int kPrefixBlockTokens = 16;

// The first eight bytes of a PrefixHash, which travel as a hint of where blocks are warm
// (WorkerState.prefixes_added): a collision costs time and never correctness.
using PrefixKey = uint64_t;

// Identifies the KV content of one whole block: everything that block depends on. 128 bits of a SHA-256
// chain, so that two different prefixes never share blocks, by accident or by design of a tenant.
struct PrefixHash {
  uint64_t hi = 0;
  uint64_t lo = 0;

  PrefixKey wire_key() const { return hi; }

  auto operator<=>(const PrefixHash&) const = default;
  template <typename H>
  friend H AbslHashValue(H h, const PrefixHash& p) {
    return H::combine(std::move(h), p.hi, p.lo);
  }
};

// One adapter as the KV sees it.
struct PrefixAdapter {
  Digest digest;
  float weight = 1.0f;
};

// Computes prefix keys, the same in gateway (placement) and worker (cache):
//   root    = H("coterie/prefix/1", base digest, salt, [adapter digest, weight bits] in order of application)
//             under a gate H("coterie/prefix/gated/1", gate's kind, top_k, seed, base digest, ... likewise)
//   block i = H(block i-1 (root before the first), its 16 token ids)
// where H is SHA-256 cut to its first 128 bits, integers are little-endian. Reuses one hashing context:
// Extend allocates nothing. Not thread-safe.
class PrefixHasher {
 public:
  PrefixHasher();
  ~PrefixHasher();
  PrefixHasher(const PrefixHasher&) = delete;
  PrefixHasher& operator=(const PrefixHasher&) = delete;

  PrefixHash Root(const Digest& base, std::span<const PrefixAdapter> adapters, std::string_view cache_salt,
                  const Gate& gate = {});
  // `block_tokens` has exactly kPrefixBlockTokens ids.
  PrefixHash Extend(const PrefixHash& parent, std::span<const int32_t> block_tokens);
  // The keys of every whole block of `tokens`, in order.
  std::vector<PrefixHash> Chain(const PrefixHash& root, std::span<const int32_t> tokens);

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace coterie

#endif  // COTERIE_COMMON_PREFIX_KEY_H_
