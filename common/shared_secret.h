#ifndef COTERIE_COMMON_SHARED_SECRET_H_
#define COTERIE_COMMON_SHARED_SECRET_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/mutex.h"
#include "common/status.h"
#include "common/watched_file.h"

namespace coterie {

// What one attempt of a gateway to attach to a worker is bound to: proofs are of no use for another one.
struct HandshakeFacts {
  std::string gateway_id;
  std::string gateway_nonce;  // drawn by the gateway
  std::string worker_nonce;   // drawn by the worker
};

// A secret that gateways and workers share, in a file: lines of at least 32 characters. The first line proves
// who we are, every line is believed of others, so that a secret is changed without a gap: the new one is
// added everywhere below the old, then put first everywhere, then the old one goes. The secret itself never
// travels. The file is looked at whenever a proof is made or checked; where it is broken or gone, what was
// read before goes on. Thread-safe.
class SharedSecret {
 public:
  static constexpr size_t kMinBytes = 32;
  static constexpr size_t kMaxLines = 16;
  static constexpr size_t kNonceBytes = 32;
  enum class Side { kGateway, kWorker };

  // InvalidArgument naming the file and the limit.
  static StatusOr<std::unique_ptr<SharedSecret>> Open(const std::string& file);

  // HMAC-SHA256 (RFC 2104) of the facts by the first line; `side` proves itself.
  std::string Prove(Side side, const HandshakeFacts& facts);
  // Whether any line made `proof`. In a time that does not depend on it.
  bool Believes(Side side, const HandshakeFacts& facts, std::string_view proof);

  static std::string DrawNonce();

 private:
  explicit SharedSecret(const std::string& file) : file_(file, 64 << 10) {}
  Status Look() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LookAndComplain() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Mutex mutex_;
  WatchedFile file_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
  std::string complaint_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie

#endif  // COTERIE_COMMON_SHARED_SECRET_H_
