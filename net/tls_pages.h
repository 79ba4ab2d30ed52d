#ifndef COTERIE_NET_TLS_PAGES_H_
#define COTERIE_NET_TLS_PAGES_H_

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/file_descriptor.h"
#include "common/mutex.h"
#include "net/tls_identity.h"

namespace coterie::net {

// One request and its answer over TLS on each connection, for a listener that has few of them (metrics): a
// thread for each while it lasts, so that nobody holds up another, and a time over all of it. Thread-safe.
class TlsPages {
 public:
  using Answer = std::function<std::string(std::string_view request)>;
  // `answer` is called from several threads.
  TlsPages(std::shared_ptr<TlsIdentity> identity, absl::Duration timeout, Answer answer)
      : identity_(std::move(identity)), timeout_(timeout), answer_(std::move(answer)) {}
  // Ends what still runs.
  ~TlsPages();

  // Serves `socket`; closes it where too many are being served.
  void Serve(FileDescriptor socket);

 private:
  struct Served {
    FileDescriptor socket;
    std::atomic<bool> done = false;
    std::thread thread;
  };
  void Run(int fd) const;

  const std::shared_ptr<TlsIdentity> identity_;
  const absl::Duration timeout_;
  const Answer answer_;
  Mutex mutex_;
  std::list<Served> served_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie::net

#endif  // COTERIE_NET_TLS_PAGES_H_
