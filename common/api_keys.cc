#include "common/api_keys.h"

#include <openssl/rand.h>

#include <array>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "common/check.h"
#include "common/json.h"
#include "common/name_patterns.h"
#include "common/quoted.h"
#include "common/sequence.h"
#include "common/unix_time.h"

namespace coterie {
namespace {

constexpr std::string_view kKeyPrefix = "coterie-";
constexpr size_t kKeyBytes = 32;
constexpr std::array<std::string_view, 11> kFields = {"id",
                                                      "sha256",
                                                      "tenant",
                                                      "experts",
                                                      "requests_per_minute",
                                                      "tokens_per_minute",
                                                      "concurrent_requests",
                                                      "max_priority",
                                                      "created",
                                                      "expires",
                                                      "revoked"};

// Ids stand in logs: a key in the place of its id must not.
bool LooksLikeApiKey(std::string_view text) {
  return text.substr(0, kKeyPrefix.size()) == kKeyPrefix && text.size() >= kKeyPrefix.size() + kKeyBytes;
}

bool IsKeyId(std::string_view text) {
  constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  return !text.empty() && text.size() <= ApiKeyLimits::kMaxIdBytes &&
         text.find_first_not_of(kAllowed) == std::string_view::npos && !LooksLikeApiKey(text);
}

StatusOr<std::optional<int64_t>> DateOf(const JsonFields& fields, std::string_view key) {
  if (!fields.Has(key)) return std::optional<int64_t>();
  ASSIGN_OR_RETURN(const std::string text, fields.String(key));
  const StatusOr<int64_t> date = ParseUtc(text);
  if (!date.ok()) return fields.Refuse(key, "expected a date in UTC such as 2027-01-31T18:00:00Z");
  return std::optional<int64_t>(*date);
}

Status RefuseUnknownFields(const JsonFields& fields) {
  for (const auto& [key, value] : fields.object().items()) {
    bool known = false;
    for (const std::string_view field : kFields) known = known || field == key;
    if (known) continue;
    return absl::InvalidArgumentError(absl::StrCat(fields.name(), ": field ", Quoted(key), " is not known"));
  }
  return absl::OkStatus();
}

StatusOr<ApiKey> ParseApiKey(const Json& json, const std::string& place) {
  if (!json.is_object()) return absl::InvalidArgumentError(place + " is no object");
  ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(json, place));
  RETURN_IF_ERROR(RefuseUnknownFields(fields));
  ApiKey key;
  ASSIGN_OR_RETURN(key.id, fields.String("id"));
  ASSIGN_OR_RETURN(const std::string hex, fields.String("sha256"));
  const StatusOr<Digest> digest = Digest::FromHex(hex);
  if (!digest.ok()) {  // and may be the key itself, which no log must show
    return absl::InvalidArgumentError(
        absl::StrCat(place, ": field \"sha256\" is not 64 lower-case hexadecimal digits"));
  }
  key.digest = *digest;
  ASSIGN_OR_RETURN(key.tenant, fields.String("tenant"));
  if (const Json* experts = fields.Find("experts"); experts != nullptr) {
    if (!experts->is_array()) return fields.Refuse("experts", "expected a list of patterns");
    ASSIGN_OR_RETURN(key.experts, fields.Strings("experts"));
  }
  constexpr auto kMost = static_cast<int64_t>(ApiKeyLimits::kMaxPerMinute);
  ASSIGN_OR_RETURN(const int64_t requests, fields.IntOr("requests_per_minute", 0, 0, kMost));
  ASSIGN_OR_RETURN(const int64_t tokens, fields.IntOr("tokens_per_minute", 0, 0, kMost));
  ASSIGN_OR_RETURN(const int64_t concurrent,
                   fields.IntOr("concurrent_requests", 0, 0, ApiKeyLimits::kMaxConcurrent));
  ASSIGN_OR_RETURN(const int64_t priority, fields.IntOr("max_priority", 0, -kMaxPriority, kMaxPriority));
  key.requests_per_minute = static_cast<uint64_t>(requests);
  key.tokens_per_minute = static_cast<uint64_t>(tokens);
  key.concurrent_requests = static_cast<uint32_t>(concurrent);
  key.max_priority = static_cast<int32_t>(priority);
  ASSIGN_OR_RETURN(const auto created, DateOf(fields, "created"));
  key.created_unix = created.value_or(0);
  ASSIGN_OR_RETURN(key.expires_unix, DateOf(fields, "expires"));
  ASSIGN_OR_RETURN(key.revoked, fields.BoolOr("revoked", false));
  RETURN_IF_ERROR(Annotate(ValidateApiKey(key), place));
  return key;
}

}  // namespace

std::string DrawApiKey() {
  std::array<unsigned char, kKeyBytes> bytes;
  COTERIE_CHECK(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1) << "no randomness";
  std::string text =
      absl::WebSafeBase64Escape(absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  while (!text.empty() && text.back() == '=') text.pop_back();
  return absl::StrCat(ToAbsl(kKeyPrefix), text);
}

Digest HashApiKey(std::string_view key) { return Sha256(key); }

Status ValidateApiKey(const ApiKey& key) {
  if (!IsKeyId(key.id)) {
    return absl::InvalidArgumentError(
        absl::StrCat("id is ", LooksLikeApiKey(key.id) ? "a key" : Quoted(key.id), ", expected 1 to ",
                     ApiKeyLimits::kMaxIdBytes, " letters, digits, '.', '_', '-' as its name"));
  }
  if (key.digest.empty()) return absl::InvalidArgumentError("sha256 is all zeros");
  if (key.tenant.empty() || key.tenant.size() > kMaxLabelBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("tenant is ", Quoted(key.tenant), ", expected 1 to ", kMaxLabelBytes, " bytes"));
  }
  if (key.experts) RETURN_IF_ERROR(Annotate(NamePatterns::Validate(*key.experts), "experts"));
  if (key.requests_per_minute > ApiKeyLimits::kMaxPerMinute ||
      key.tokens_per_minute > ApiKeyLimits::kMaxPerMinute) {
    return absl::InvalidArgumentError(
        absl::StrCat("requests or tokens a minute are above the limit of ", ApiKeyLimits::kMaxPerMinute));
  }
  if (key.concurrent_requests > ApiKeyLimits::kMaxConcurrent) {
    return absl::InvalidArgumentError(absl::StrCat("concurrent_requests is ", key.concurrent_requests,
                                                   ", at most ", ApiKeyLimits::kMaxConcurrent,
                                                   " are allowed"));
  }
  if (key.max_priority < -kMaxPriority || key.max_priority > kMaxPriority) {
    return absl::InvalidArgumentError(absl::StrCat("max_priority is ", key.max_priority, ", must lie in [",
                                                   -kMaxPriority, ", ", kMaxPriority, "]"));
  }
  return absl::OkStatus();
}

StatusOr<std::vector<ApiKey>> ParseApiKeys(std::string_view json, std::string_view name) {
  const JsonLimits limits{.max_bytes = ApiKeyLimits::kMaxFileBytes, .max_depth = 4, .max_values = 1'000'000};
  if (const Status status = CheckJson(json, limits); !status.ok()) {
    // The parser shows what it read last: here perhaps a key that somebody put into the file as it is.
    const std::string words(status.message());
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(name), ": ", words.substr(0, words.find("; last read"))));
  }
  const Json root = Json::parse(json.begin(), json.end(), nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return absl::InvalidArgumentError(absl::StrCat(ToAbsl(name), " is no JSON object"));
  for (const auto& [key, value] : root.items()) {
    if (key == "keys") continue;
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(name), ": field ", Quoted(key), " is not known; \"keys\" is"));
  }
  const auto list = root.find("keys");
  if (list == root.end() || !list->is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(name), ": field \"keys\" is no list"));
  }
  if (list->size() > ApiKeyLimits::kMaxKeys) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(name), " has ", list->size(), " keys, at most ",
                                                   ApiKeyLimits::kMaxKeys, " are allowed"));
  }
  std::vector<ApiKey> keys;
  std::set<std::string> ids;
  std::set<Digest> digests;
  for (const Json& item : *list) {
    const std::string place = absl::StrCat(ToAbsl(name), ": keys[", keys.size(), "]");
    ASSIGN_OR_RETURN(ApiKey key, ParseApiKey(item, place));
    if (!ids.insert(key.id).second) {
      return absl::InvalidArgumentError(absl::StrCat(place, ": id ", Quoted(key.id), " is there twice"));
    }
    if (!digests.insert(key.digest).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(place, ": ", Quoted(key.id), " is the same key as one before it"));
    }
    keys.push_back(std::move(key));
  }
  return keys;
}

std::string PrintApiKeys(const std::vector<ApiKey>& keys) {
  Json list = Json::array();
  for (const ApiKey& key : keys) {
    Json item = {{"id", key.id}, {"sha256", key.digest.ToHex()}, {"tenant", key.tenant}};
    if (key.experts) item["experts"] = *key.experts;
    if (key.requests_per_minute > 0) item["requests_per_minute"] = key.requests_per_minute;
    if (key.tokens_per_minute > 0) item["tokens_per_minute"] = key.tokens_per_minute;
    if (key.concurrent_requests > 0) item["concurrent_requests"] = key.concurrent_requests;
    if (key.max_priority != 0) item["max_priority"] = key.max_priority;
    if (key.created_unix != 0) item["created"] = FormatUtc(key.created_unix);
    if (key.expires_unix) item["expires"] = FormatUtc(*key.expires_unix);
    if (key.revoked) item["revoked"] = true;
    list.push_back(std::move(item));
  }
  return Json{{"keys", std::move(list)}}.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace coterie
