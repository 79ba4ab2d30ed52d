#include "common/digest.h"

#include <openssl/evp.h>

#include <cstring>

#include "common/check.h"
#include "common/quoted.h"

namespace coterie {

StatusOr<Digest> Digest::FromHex(std::string_view hex) {
  std::array<uint8_t, kBytes> bytes;
  auto value = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  if (hex.size() != 2 * kBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("digest has ", hex.size(), " characters, want 64 hexadecimal digits"));
  }
  for (size_t i = 0; i < kBytes; ++i) {
    const int high = value(hex[2 * i]), low = value(hex[2 * i + 1]);
    if (high < 0 || low < 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "digest ", Quoted(hex), " has a character that is not a lower-case hexadecimal digit"));
    }
    bytes[i] = static_cast<uint8_t>(16 * high + low);
  }
  return Digest(bytes);
}

StatusOr<Digest> Digest::FromBytes(std::string_view raw) {
  if (raw.size() != kBytes) {
    return absl::InvalidArgumentError(absl::StrCat("digest has ", raw.size(), " bytes, want ", kBytes));
  }
  std::array<uint8_t, kBytes> bytes;
  std::memcpy(bytes.data(), raw.data(), kBytes);
  return Digest(bytes);
}

std::string Digest::ToHex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * kBytes);
  for (uint8_t b : bytes_) {
    hex.push_back(kDigits[b >> 4]);
    hex.push_back(kDigits[b & 15]);
  }
  return hex;
}

std::string Digest::ToBytes() const {
  return std::string(reinterpret_cast<const char*>(bytes_.data()), kBytes);
}

Hasher::Hasher() : context_(EVP_MD_CTX_new()) {
  COTERIE_CHECK(context_ != nullptr);
  COTERIE_CHECK_EQ(EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(context_), EVP_sha256(), nullptr), 1);
}

Hasher::~Hasher() { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context_)); }

Hasher& Hasher::Update(const void* data, size_t n_bytes) {
  COTERIE_CHECK_EQ(EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_), data, n_bytes), 1);
  return *this;
}

Hasher& Hasher::UpdateField(std::string_view s) { return UpdateU64(s.size()).Update(s); }

Hasher& Hasher::UpdateU64(uint64_t value) {
  uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(value >> (8 * i));
  return Update(bytes, sizeof(bytes));
}

Digest Hasher::Finish() {
  std::array<uint8_t, Digest::kBytes> bytes;
  unsigned n = 0;
  COTERIE_CHECK_EQ(EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(context_), bytes.data(), &n), 1);
  COTERIE_CHECK_EQ(n, Digest::kBytes);
  return Digest(bytes);
}

Digest Sha256(std::string_view data) { return Hasher().Update(data).Finish(); }

}  // namespace coterie
