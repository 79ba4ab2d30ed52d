#include "common/shared_secret.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <array>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "common/check.h"
#include "common/digest.h"
#include "common/log/named.h"
#include "spdlog/spdlog.h"

namespace coterie {
namespace {

// What is signed: each part with its length, so that none can borrow from its neighbour.
std::string SignedText(SharedSecret::Side side, const HandshakeFacts& facts) {
  const char* const what =
      side == SharedSecret::Side::kGateway ? "coterie gateway attaches 1" : "coterie worker answers 1";
  return Hasher()
      .UpdateField(what)
      .UpdateField(facts.gateway_id)
      .UpdateField(facts.gateway_nonce)
      .UpdateField(facts.worker_nonce)
      .Finish()
      .ToBytes();
}

std::string Sign(const std::string& secret, const std::string& text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> code;
  unsigned int n_bytes = 0;
  COTERIE_CHECK(HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
                     reinterpret_cast<const unsigned char*>(text.data()), text.size(), code.data(),
                     &n_bytes) != nullptr)
      << "no HMAC";
  return {reinterpret_cast<const char*>(code.data()), n_bytes};
}

StatusOr<std::vector<std::string>> ParseLines(std::string_view text, const std::string& path) {
  std::vector<std::string> lines;
  for (absl::string_view line : absl::StrSplit(ToAbsl(text), '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    if (line.size() < SharedSecret::kMinBytes) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": a secret of ", line.size(),
                                                     " characters, at least ", SharedSecret::kMinBytes,
                                                     " are expected (openssl rand -hex 32)"));
    }
    lines.emplace_back(line);
  }
  if (lines.empty() || lines.size() > SharedSecret::kMaxLines) {
    return absl::InvalidArgumentError(absl::StrCat(path, " holds ", lines.size(), " secrets, 1 to ",
                                                   SharedSecret::kMaxLines, " lines are expected"));
  }
  return lines;
}

}  // namespace

StatusOr<std::unique_ptr<SharedSecret>> SharedSecret::Open(const std::string& file) {
  std::unique_ptr<SharedSecret> secret(new SharedSecret(file));
  MutexLock lock(&secret->mutex_);
  RETURN_IF_ERROR(secret->Look());
  return secret;
}

Status SharedSecret::Look() {
  ASSIGN_OR_RETURN(const std::optional<std::string> text, file_.ReadIfChanged());
  if (!text) return absl::OkStatus();
  ASSIGN_OR_RETURN(lines_, ParseLines(*text, file_.path()));
  return absl::OkStatus();
}

void SharedSecret::LookAndComplain() {
  const Status status = Look();
  if (!status.ok() && status.message() != complaint_) {
    spdlog::error("the shared secret stays as it was read before: {}",
                  Named("why", std::string(status.message())));
  }
  complaint_ = std::string(status.message());
}

std::string SharedSecret::Prove(Side side, const HandshakeFacts& facts) {
  const std::string text = SignedText(side, facts);
  MutexLock lock(&mutex_);
  LookAndComplain();
  return Sign(lines_.front(), text);
}

bool SharedSecret::Believes(Side side, const HandshakeFacts& facts, std::string_view proof) {
  const std::string text = SignedText(side, facts);
  MutexLock lock(&mutex_);
  LookAndComplain();
  bool believed = false;
  for (const std::string& line : lines_) {
    const std::string expected = Sign(line, text);
    believed |=
        proof.size() == expected.size() && CRYPTO_memcmp(proof.data(), expected.data(), expected.size()) == 0;
  }
  return believed;
}

std::string SharedSecret::DrawNonce() {
  std::string nonce(kNonceBytes, '\0');
  COTERIE_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(nonce.data()), kNonceBytes) == 1)
      << "no randomness";
  return nonce;
}

}  // namespace coterie
