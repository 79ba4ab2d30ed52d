#ifndef COTERIE_COMMON_DIGEST_H_
#define COTERIE_COMMON_DIGEST_H_

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "common/status.h"

namespace coterie {

// A SHA-256 content hash (FIPS 180-4). The all-zero digest means "none" (for an adapter: the base itself).
class Digest {
 public:
  static constexpr size_t kBytes = 32;

  Digest() = default;
  explicit Digest(const std::array<uint8_t, kBytes>& bytes) : bytes_(bytes) {}

  // 64 lower-case hexadecimal digits, or InvalidArgument naming the text.
  static StatusOr<Digest> FromHex(std::string_view hex);
  // Exactly kBytes raw bytes, as digests travel on the wire.
  static StatusOr<Digest> FromBytes(std::string_view raw);

  bool empty() const { return *this == Digest(); }
  std::string ToHex() const;
  std::string ToBytes() const;
  // The first 12 hexadecimal digits: for people; never a key.
  std::string Short() const { return ToHex().substr(0, 12); }
  const std::array<uint8_t, kBytes>& bytes() const { return bytes_; }

  auto operator<=>(const Digest&) const = default;

  template <typename H>
  friend H AbslHashValue(H h, const Digest& d) {
    return H::combine(std::move(h), d.bytes_);
  }

 private:
  std::array<uint8_t, kBytes> bytes_ = {};
};

// Incremental SHA-256. Not thread-safe. Finish() may be called once.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  Hasher& Update(const void* data, size_t n_bytes);
  Hasher& Update(std::string_view s) { return Update(s.data(), s.size()); }
  // Length-prefixed, so that ("ab","c") and ("a","bc") differ.
  Hasher& UpdateField(std::string_view s);
  // Fixed-width little-endian.
  Hasher& UpdateU64(uint64_t value);
  Digest Finish();

 private:
  void* context_;  // EVP_MD_CTX
};

Digest Sha256(std::string_view data);

}  // namespace coterie

#endif  // COTERIE_COMMON_DIGEST_H_
