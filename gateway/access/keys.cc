#include "gateway/access/keys.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "common/log/named.h"
#include "common/quoted.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway {
namespace {

// More than any key has, and little enough to hash for whoever sends it.
constexpr size_t kMaxShownBytes = 512;

constexpr char kHowTo[] = "; send \"authorization: Bearer KEY\"";

}  // namespace

StatusOr<std::unique_ptr<Keys>> Keys::Start(Options options, MetricsRegistry* registry) {
  std::unique_ptr<Keys> keys(new Keys(std::move(options), registry));
  {
    MutexLock lock(&keys->refresh_mutex_);
    RETURN_IF_ERROR(Annotate(keys->Read(), "--keys"));
  }
  keys->refreshes_.emplace(keys->options_.poll, [raw = keys.get()] { raw->Refresh(); });
  return keys;
}

void Keys::Refresh() {
  MutexLock lock(&refresh_mutex_);
  const Status status = Read();
  if (!status.ok()) metrics_->reload_failures.Increment();
  if (!status.ok() && status.message() != complaint_) {
    spdlog::error("the keys file stays as it was read before: {}",
                  Named("why", std::string(status.message())));
  }
  complaint_ = std::string(status.message());
}

Status Keys::Read() {
  ASSIGN_OR_RETURN(const std::optional<std::string> text, file_.ReadIfChanged());
  std::shared_ptr<const KeyRing> ring;
  {
    MutexLock lock(&mutex_);
    ring = ring_;
  }
  if (text) {
    const StatusOr<std::vector<ApiKey>> keys = ParseApiKeys(*text, options_.file);
    if (!keys.ok()) {
      broken_ = keys.status();
    } else {
      broken_ = absl::OkStatus();
      ring = KeyRing::Create(*keys, ring.get(), options_.clock());
      MutexLock lock(&mutex_);
      ring_ = ring;
    }
  }
  if (ring != nullptr) {
    const size_t n_valid = ring->CountValid(options_.unix_now());
    metrics_->keys.Set(static_cast<double>(n_valid));
    if (text && broken_.ok())
      spdlog::info("keys file: {} keys, {} of them valid", Named("keys", ring->size()),
                   Named("valid", n_valid));
  }
  return broken_;
}

StatusOr<std::shared_ptr<AccessPass>> Keys::Check(std::string_view key) const {
  const auto refuse = [this](const char* reason, const auto&... words) -> Status {
    metrics_->CountRefusal(reason);
    return absl::UnauthenticatedError(absl::StrCat(words...));
  };
  if (key.empty()) return refuse("missing", "no API key came with the request", kHowTo);
  if (key.size() > kMaxShownBytes) {
    return refuse("malformed", "the API key has ", key.size(), " bytes, at most ", kMaxShownBytes,
                  " are read", kHowTo);
  }
  std::shared_ptr<const KeyRing> ring;
  {
    MutexLock lock(&mutex_);
    ring = ring_;
  }
  std::shared_ptr<const KeyEntry> entry = ring->Find(key);
  if (entry == nullptr) return refuse("unknown", "the API key is not one of this gateway", kHowTo);
  const ApiKey& known = entry->key;
  if (known.revoked) return refuse("revoked", "key ", Quoted(known.id), " was revoked; ask for a new one");
  if (known.expires_unix && options_.unix_now() >= *known.expires_unix) {
    return refuse("expired", "key ", Quoted(known.id), " expired at ", FormatUtc(*known.expires_unix),
                  "; ask for a new one");
  }
  return std::make_shared<AccessPass>(std::move(entry), metrics_, options_.clock);
}

std::string_view KeyIn(std::string_view authorization, std::string_view x_api_key) {
  constexpr std::string_view kScheme = "bearer";
  const absl::string_view text = absl::StripAsciiWhitespace(ToAbsl(authorization));
  if (text.size() > kScheme.size() && text[kScheme.size()] == ' ' &&
      absl::EqualsIgnoreCase(text.substr(0, kScheme.size()), ToAbsl(kScheme))) {
    const absl::string_view key = absl::StripAsciiWhitespace(text.substr(kScheme.size()));
    return {key.data(), key.size()};
  }
  const absl::string_view key = absl::StripAsciiWhitespace(ToAbsl(x_api_key));
  return {key.data(), key.size()};
}

}  // namespace coterie::gateway
