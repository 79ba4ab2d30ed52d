#include "net/tls_identity.h"

#include <openssl/ssl.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "common/file.h"
#include "common/log/named.h"
#include "net/tls_context.h"
#include "spdlog/spdlog.h"

namespace coterie::net {
namespace {

constexpr size_t kMaxPemBytes = 4 << 20;  // a system's bundle of authorities has a few hundred kilobytes
constexpr int64_t kWarnSeconds = 14 * 24 * 3600;

Status CheckPair(const TlsOptions& options) {
  if (options.cert.empty() == options.key.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      options.name, " TLS: a certificate (", options.cert.empty() ? "none" : options.cert,
      ") and its private key (", options.key.empty() ? "none" : options.key, ") are needed together"));
}

}  // namespace

TlsIdentity::TlsIdentity(TlsOptions options, MetricsRegistry* registry)
    : options_(std::move(options)),
      cert_(options_.cert, kMaxPemBytes),
      key_(options_.key, kMaxPemBytes),
      peer_ca_(options_.peer_ca, kMaxPemBytes) {
  if (registry == nullptr) return;
  failures_ =
      &registry->Counter("coterie_tls_reload_failures_total",
                         "Looks at files of certificates that could not be used.", {{"tls", options_.name}});
  if (!options_.cert.empty()) {
    expiry_ = &registry->Gauge("coterie_tls_certificate_expiry_timestamp_seconds",
                               "When the certificate that is shown expires.", {{"tls", options_.name}});
  }
}

StatusOr<TlsMaterial> ReadTlsMaterial(const TlsOptions& options) {
  RETURN_IF_ERROR(CheckPair(options));
  TlsMaterial material;
  const std::pair<const std::string&, std::string*> files[] = {{options.cert, &material.cert_chain},
                                                               {options.key, &material.private_key},
                                                               {options.peer_ca, &material.peer_ca}};
  for (const auto& [file, text] : files) {
    if (file.empty()) continue;
    ASSIGN_OR_RETURN(*text, ReadFile(file, kMaxPemBytes));
  }
  return CheckTlsMaterial(std::move(material), {options.cert, options.key, options.peer_ca},
                          options.unix_now());
}

StatusOr<std::shared_ptr<TlsIdentity>> TlsIdentity::Start(TlsOptions options, MetricsRegistry* registry) {
  RETURN_IF_ERROR(CheckPair(options));
  std::shared_ptr<TlsIdentity> identity(new TlsIdentity(std::move(options), registry));
  {
    MutexLock lock(&identity->refresh_mutex_);
    RETURN_IF_ERROR(Annotate(identity->Read(), absl::StrCat(identity->options_.name, " TLS")));
  }
  identity->refreshes_.emplace(identity->options_.poll, [raw = identity.get()] { raw->Refresh(); });
  return identity;
}

std::shared_ptr<const TlsMaterial> TlsIdentity::Current() const {
  MutexLock lock(&mutex_);
  return current_;
}

std::shared_ptr<ssl_ctx_st> TlsIdentity::ServerContext() const {
  MutexLock lock(&mutex_);
  return context_;
}

void TlsIdentity::Refresh() {
  MutexLock lock(&refresh_mutex_);
  const Status status = Read();
  if (!status.ok() && failures_ != nullptr) failures_->Increment();
  if (!status.ok() && status.message() != complaint_) {
    spdlog::error("{} TLS goes on with what it read before: {}", Named("tls", options_.name),
                  Named("why", std::string(status.message())));
  }
  complaint_ = std::string(status.message());
  const int64_t expires = Current()->expires_unix;
  const bool soon = expires > 0 && options_.unix_now() + kWarnSeconds > expires;
  if (soon && !warned_) {
    spdlog::warn("{} TLS: the certificate in {} expires at {}", Named("tls", options_.name),
                 Named("file", options_.cert), Named("expires", FormatUtc(expires)));
  }
  warned_ = soon;
}

Status TlsIdentity::Read() {
  bool changed = false;
  const auto look = [&changed](WatchedFile* file, std::string* text) -> Status {
    if (file->path().empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(std::optional<std::string> content, file->ReadIfChanged());
    if (!content) return absl::OkStatus();
    *text = *std::move(content);
    changed = true;
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(look(&cert_, &seen_.cert_chain));
  RETURN_IF_ERROR(look(&key_, &seen_.private_key));
  RETURN_IF_ERROR(look(&peer_ca_, &seen_.peer_ca));
  if (!changed && fits_) return absl::OkStatus();
  fits_ = false;
  ASSIGN_OR_RETURN(
      TlsMaterial checked,
      CheckTlsMaterial(seen_, {options_.cert, options_.key, options_.peer_ca}, options_.unix_now()));
  std::shared_ptr<ssl_ctx_st> context;
  if (!checked.cert_chain.empty()) {
    ASSIGN_OR_RETURN(context, MakeServerContext(checked));
  }
  fits_ = true;
  if (expiry_ != nullptr) expiry_->Set(static_cast<double>(checked.expires_unix));
  if (!checked.cert_chain.empty()) {
    spdlog::info("{} TLS shows a certificate for {} until {}", Named("tls", options_.name),
                 Named("names", NamesOfCertificate(checked.cert_chain)),
                 Named("expires", FormatUtc(checked.expires_unix)));
  }
  MutexLock lock(&mutex_);
  current_ = std::make_shared<const TlsMaterial>(std::move(checked));
  context_ = std::move(context);
  return absl::OkStatus();
}

}  // namespace coterie::net
