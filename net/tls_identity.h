#ifndef COTERIE_NET_TLS_IDENTITY_H_
#define COTERIE_NET_TLS_IDENTITY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "common/metrics.h"
#include "common/mutex.h"
#include "common/repeated_call.h"
#include "common/status.h"
#include "common/unix_time.h"
#include "common/watched_file.h"
#include "net/tls_material.h"

struct ssl_ctx_st;

namespace coterie::net {

struct TlsOptions {
  std::string name;  // in log lines and metrics: "front", "workers"
  std::string cert;  // files in PEM; see TlsMaterial for what an empty one means
  std::string key;
  std::string peer_ca;
  absl::Duration poll = absl::Seconds(1);
  std::function<int64_t()> unix_now = UnixSeconds;  // certificates expire by the calendar

  bool any() const { return !cert.empty() || !key.empty() || !peer_ca.empty(); }
};

// The files as they are now, checked; for a process that ends before they change. The errors of Start.
StatusOr<TlsMaterial> ReadTlsMaterial(const TlsOptions& options);

// What one side of TLS connections shows and whom it believes, read again when the files change: new
// connections get the new, those that are there go on. Files that do not fit each other (one of two may just
// have been replaced), are broken or have expired are named in the log, and the old ones stay. Thread-safe.
class TlsIdentity {
 public:
  // The error of the files where they are wrong at the start; InvalidArgument where a certificate has no key
  // or the other way round. `registry` may be null, and outlives this.
  static StatusOr<std::shared_ptr<TlsIdentity>> Start(TlsOptions options, MetricsRegistry* registry);

  std::shared_ptr<const TlsMaterial> Current() const;
  // Of a server, for those who speak OpenSSL themselves: TLS 1.2 and 1.3, http/1.1 by ALPN, and where there
  // is a peer_ca a certificate of it is demanded. Made once for each reading of the files.
  std::shared_ptr<ssl_ctx_st> ServerContext() const;
  // Looks at the files now; the thread does so by itself.
  void Refresh();

 private:
  TlsIdentity(TlsOptions options, MetricsRegistry* registry);
  Status Read() ABSL_EXCLUSIVE_LOCKS_REQUIRED(refresh_mutex_);

  const TlsOptions options_;
  prometheus::Gauge* expiry_ = nullptr;  // null: nobody looks
  prometheus::Counter* failures_ = nullptr;

  Mutex refresh_mutex_;
  WatchedFile cert_ ABSL_GUARDED_BY(refresh_mutex_);
  WatchedFile key_ ABSL_GUARDED_BY(refresh_mutex_);
  WatchedFile peer_ca_ ABSL_GUARDED_BY(refresh_mutex_);
  TlsMaterial seen_ ABSL_GUARDED_BY(refresh_mutex_);  // as the files are, whether they fit or not
  bool fits_ ABSL_GUARDED_BY(refresh_mutex_) = false;
  std::string complaint_ ABSL_GUARDED_BY(refresh_mutex_);
  bool warned_ ABSL_GUARDED_BY(refresh_mutex_) = false;

  mutable Mutex mutex_;
  std::shared_ptr<const TlsMaterial> current_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<ssl_ctx_st> context_ ABSL_GUARDED_BY(mutex_);
  std::optional<RepeatedCall> refreshes_;
};

}  // namespace coterie::net

#endif  // COTERIE_NET_TLS_IDENTITY_H_
