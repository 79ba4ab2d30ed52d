#ifndef COTERIE_NET_TRACE_HTTP_POST_H_
#define COTERIE_NET_TRACE_HTTP_POST_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "common/clock.h"
#include "common/status.h"
#include "net/trace/otlp_endpoint.h"

struct ssl_ctx_st;

namespace coterie::net {

struct HttpAnswer {
  int status = 0;    // 200
  std::string body;  // as far as it came, cut where it is longer than kMaxAnswerBytes
};

// POSTs to one place, each over a connection of its own: one every second or so, which is not worth keeping
// one open that the other side may have given up. Waits no longer than it is told to, except for the name's
// look-up.
class HttpPoster {
 public:
  static constexpr size_t kMaxAnswerBytes = 64 << 10;

  // `ca_file`: certificates in PEM that vouch for the receiver's; empty: the system's. `headers_file`: lines
  // "name: value" that go with every POST, which reads them again; empty: none. InvalidArgument naming the
  // file and the line, never a value.
  static StatusOr<std::unique_ptr<HttpPoster>> Create(OtlpEndpoint endpoint, const std::string& ca_file,
                                                      std::string headers_file = "");

  // Ends early, with Cancelled, once something can be read from `stop_fd`. Unavailable and DeadlineExceeded
  // say what was in the way; any answer that has a status is Ok.
  StatusOr<HttpAnswer> Post(std::string_view content_type, std::string_view body, MonotonicTime deadline,
                            int stop_fd) const;

 private:
  HttpPoster(OtlpEndpoint endpoint, std::shared_ptr<ssl_ctx_st> tls, std::string headers_file)
      : endpoint_(std::move(endpoint)), tls_(std::move(tls)), headers_file_(std::move(headers_file)) {}

  const OtlpEndpoint endpoint_;
  const std::shared_ptr<ssl_ctx_st> tls_;  // null: in the clear
  const std::string headers_file_;
};

}  // namespace coterie::net

#endif  // COTERIE_NET_TRACE_HTTP_POST_H_
