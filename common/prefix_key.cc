#include "common/prefix_key.h"

#include <openssl/evp.h>

#include <bit>
#include <cstring>

#include "common/check.h"

namespace coterie {
namespace {

void PutU64(uint8_t* out, uint64_t value) {
  for (int i = 0; i < 8; ++i) out[i] = static_cast<uint8_t>(value >> (8 * i));
}

uint64_t GetU64(const uint8_t* in) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | in[i];
  return value;
}

}  // namespace

struct PrefixHasher::Context {
  Context() : md(EVP_MD_fetch(nullptr, "SHA256", nullptr)), ctx(EVP_MD_CTX_new()) {
    COTERIE_CHECK(md != nullptr && ctx != nullptr) << "OpenSSL has no SHA-256";
  }
  ~Context() {
    EVP_MD_CTX_free(ctx);
    EVP_MD_free(md);
  }
  // A fetched digest and a context used before: OpenSSL then re-initialises in place.
  void Begin() { COTERIE_CHECK(EVP_DigestInit_ex(ctx, md, nullptr) == 1); }
  void Update(const void* data, size_t n) { COTERIE_CHECK(EVP_DigestUpdate(ctx, data, n) == 1); }
  PrefixHash End() {
    uint8_t digest[EVP_MAX_MD_SIZE];
    COTERIE_CHECK(EVP_DigestFinal_ex(ctx, digest, nullptr) == 1);
    return {GetU64(digest), GetU64(digest + 8)};
  }

  EVP_MD* md;
  EVP_MD_CTX* ctx;
};

PrefixHasher::PrefixHasher() : context_(std::make_unique<Context>()) {}
PrefixHasher::~PrefixHasher() = default;

PrefixHash PrefixHasher::Root(const Digest& base, std::span<const PrefixAdapter> adapters,
                              std::string_view cache_salt, const Gate& gate) {
  uint8_t number[8];
  context_->Begin();
  const bool gated = gate.kind != GateKind::kNone;
  const std::string_view tag = gated ? "coterie/prefix/gated/1" : "coterie/prefix/1";
  context_->Update(tag.data(), tag.size());
  if (gated) {
    for (const uint64_t value :
         {static_cast<uint64_t>(gate.kind), static_cast<uint64_t>(gate.top_k), gate.seed}) {
      PutU64(number, value);
      context_->Update(number, sizeof(number));
    }
  }
  context_->Update(base.bytes().data(), Digest::kBytes);
  PutU64(number, cache_salt.size());
  context_->Update(number, sizeof(number));
  context_->Update(cache_salt.data(), cache_salt.size());
  for (const PrefixAdapter& adapter : adapters) {
    context_->Update(adapter.digest.bytes().data(), Digest::kBytes);
    PutU64(number, std::bit_cast<uint32_t>(adapter.weight));
    context_->Update(number, sizeof(number));
  }
  return context_->End();
}

PrefixHash PrefixHasher::Extend(const PrefixHash& parent, std::span<const int32_t> block_tokens) {
  COTERIE_CHECK_EQ(block_tokens.size(), static_cast<size_t>(kPrefixBlockTokens));
  uint8_t bytes[16 + 4 * kPrefixBlockTokens];
  PutU64(bytes, parent.hi);
  PutU64(bytes + 8, parent.lo);
  for (int i = 0; i < kPrefixBlockTokens; ++i) {
    const uint32_t token = static_cast<uint32_t>(block_tokens[i]);
    for (int b = 0; b < 4; ++b) bytes[16 + 4 * i + b] = static_cast<uint8_t>(token >> (8 * b));
  }
  context_->Begin();
  context_->Update(bytes, sizeof(bytes));
  return context_->End();
}

std::vector<PrefixHash> PrefixHasher::Chain(const PrefixHash& root, std::span<const int32_t> tokens) {
  std::vector<PrefixHash> keys;
  keys.reserve(tokens.size() / kPrefixBlockTokens);
  PrefixHash parent = root;
  for (size_t i = 0; i + kPrefixBlockTokens <= tokens.size(); i += kPrefixBlockTokens) {
    parent = Extend(parent, tokens.subspan(i, kPrefixBlockTokens));
    keys.push_back(parent);
  }
  return keys;
}

}  // namespace coterie
