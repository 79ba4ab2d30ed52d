#ifndef COTERIE_COMMON_API_KEYS_H_
#define COTERIE_COMMON_API_KEYS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "common/status.h"

namespace coterie {

// What the keys file says of one key: whose it is and what it may do. The key itself stands nowhere.
struct ApiKey {
  std::string id;      // for people and logs: 1 to 64 letters, digits, '.', '_', '-'
  Digest digest;       // SHA-256 of the key. No salt: a key is 256 random bits, which nobody guesses
  std::string tenant;  // whose shares and counters its requests fall under, whatever they say
  // Patterns of the experts it may use (NamePatterns); absent: all. The base is everybody's.
  std::optional<std::vector<std::string>> experts;
  uint64_t requests_per_minute = 0;  // 0: no limit, here and below
  uint64_t tokens_per_minute = 0;    // of prompts and answers together
  uint32_t concurrent_requests = 0;
  int32_t max_priority = 0;  // a request that asks for more gets this
  int64_t created_unix = 0;
  std::optional<int64_t> expires_unix;  // from this second on it is refused
  bool revoked = false;

  bool operator==(const ApiKey&) const = default;
};

struct ApiKeyLimits {
  static constexpr size_t kMaxFileBytes = size_t{16} << 20;
  static constexpr size_t kMaxKeys = 20'000;
  static constexpr size_t kMaxIdBytes = 64;
  static constexpr uint64_t kMaxPerMinute = 1'000'000'000'000;
  static constexpr uint32_t kMaxConcurrent = 1'000'000;
};

// A new key, 256 bits from the system's source of randomness: "coterie-" and 43 characters of base64url.
std::string DrawApiKey();
// What the file holds of it. Whatever a client sent may be hashed.
Digest HashApiKey(std::string_view key);

// InvalidArgument naming the field, its value and the limit.
Status ValidateApiKey(const ApiKey& key);

// The keys of a file's text:
//
//   {"keys": [{"id": "ann", "sha256": "…", "tenant": "physics", "experts": ["law-*"],
//              "requests_per_minute": 60, "tokens_per_minute": 100000, "concurrent_requests": 4,
//              "max_priority": 0, "created": "2026-11-30T12:00:00Z", "expires": "2027-01-31", "revoked":
//              false}]}
//
// id, sha256 and tenant must be there. InvalidArgument naming `name`, the key and the field: a field that is
// not known is refused, since it may be a limit misspelt, and so are ids and keys that appear twice.
StatusOr<std::vector<ApiKey>> ParseApiKeys(std::string_view json, std::string_view name);
// The text that parses to `keys`.
std::string PrintApiKeys(const std::vector<ApiKey>& keys);

}  // namespace coterie

#endif  // COTERIE_COMMON_API_KEYS_H_
