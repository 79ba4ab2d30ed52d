#include "net/metrics_server.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "net/listen_socket.h"
#include "net/tls_pages.h"
#include "prometheus/text_serializer.h"

namespace coterie::net {
namespace {

// Scrapers and a few people; each connection carries one request.
constexpr int kPlaces = 32;
constexpr int kPlacesOfOneClient = 16;
constexpr absl::Duration kRequestTimeout = absl::Seconds(5);
constexpr absl::Duration kWriteTimeout = absl::Milliseconds(500);
// Most pages fit, so that the kernel carries them to a slow reader while others are served.
constexpr int kSendBufferBytes = 1 << 20;

std::string Response(std::string_view status, std::string_view type, std::string_view body, bool with_body) {
  return absl::StrCat("HTTP/1.1 ", ToAbsl(status), "\r\nContent-Type: ", ToAbsl(type),
                      "\r\nContent-Length: ", body.size(), "\r\nConnection: close\r\n\r\n",
                      with_body ? ToAbsl(body) : "");
}

void Write(int fd, std::string_view bytes) {
  const MonotonicTime until = MonotonicNow() + kWriteTimeout;
  while (!bytes.empty()) {
    const ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      bytes.remove_prefix(static_cast<size_t>(n));
      continue;
    }
    const absl::Duration left = until - MonotonicNow();
    if (errno != EAGAIN || left <= absl::ZeroDuration()) return;
    pollfd ready = {fd, POLLOUT, 0};
    poll(&ready, 1, static_cast<int>(absl::ToInt64Milliseconds(left) + 1));
  }
}

}  // namespace

class MetricsServer::Pages final : public ConnectionProtocol {
 public:
  Pages(const MetricsRegistry* registry, std::shared_ptr<prometheus::Collectable> live,
        std::shared_ptr<TlsIdentity> tls)
      : registry_(registry), live_(std::move(live)) {
    if (tls == nullptr) return;
    over_tls_ = std::make_unique<TlsPages>(std::move(tls), kRequestTimeout,
                                           [this](std::string_view request) { return Answer(request); });
  }

  Opening Judge(std::string_view sent) const override {
    if (over_tls_ != nullptr) return sent.empty() ? Opening::kIncomplete : Opening::kComplete;
    if (sent.empty() || sent.front() < 'A' || sent.front() > 'Z') return Opening::kWrong;
    return sent.find("\r\n\r\n") != std::string_view::npos ? Opening::kComplete : Opening::kIncomplete;
  }

  void Take(int fd) override {
    FileDescriptor socket(fd);
    if (over_tls_ != nullptr) return over_tls_->Serve(std::move(socket));
    std::array<char, 8192> request;  // all of it is there
    const ssize_t n = recv(fd, request.data(), request.size(), MSG_DONTWAIT);
    if (n <= 0) return;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kSendBufferBytes, sizeof(kSendBufferBytes));
    Write(fd, Answer({request.data(), static_cast<size_t>(n)}));
    shutdown(fd, SHUT_WR);
  }

  std::string Refusal(std::string_view why) const override {
    if (over_tls_ != nullptr) return "";
    return Response("503 Service Unavailable", "text/plain", absl::StrCat(ToAbsl(why), "\n"), true);
  }

 private:
  std::string Answer(std::string_view request) const {
    const std::string_view line = request.substr(0, request.find("\r\n"));
    const size_t space = line.find(' ');
    const std::string_view method = line.substr(0, space);
    std::string_view target = space == std::string_view::npos ? "" : line.substr(space + 1);
    target = target.substr(0, target.find_first_of(" ?"));
    if (method != "GET" && method != "HEAD") {
      return Response("405 Method Not Allowed", "text/plain", "only GET is served here\n", true);
    }
    const bool with_body = method == "GET";
    if (target != "/metrics") {
      return Response("404 Not Found", "text/plain", "only /metrics is served here\n", with_body);
    }
    return Response("200 OK", kMetricsType, MetricsText(*registry_, live_.get()), with_body);
  }

  const MetricsRegistry* const registry_;
  const std::shared_ptr<prometheus::Collectable> live_;
  std::unique_ptr<TlsPages> over_tls_;
};

std::string MetricsText(const MetricsRegistry& registry, prometheus::Collectable* live) {
  std::vector<prometheus::MetricFamily> families = registry.registry()->Collect();
  if (live != nullptr) {
    for (prometheus::MetricFamily& family : live->Collect()) families.push_back(std::move(family));
  }
  return prometheus::TextSerializer().Serialize(families);
}

StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(MetricsRegistry* registry,
                                                              const std::string& address,
                                                              std::shared_ptr<prometheus::Collectable> live,
                                                              std::shared_ptr<TlsIdentity> tls) {
  StatusOr<ListenSockets> sockets = Listen(address);
  if (!sockets.ok()) return Annotate(sockets.status(), "metrics");
  std::unique_ptr<MetricsServer> server(new MetricsServer());
  server->pages_ = std::make_unique<Pages>(registry, std::move(live), std::move(tls));
  AcceptorOptions options;
  options.listener = "metrics";
  options.max_connections = kPlaces;
  options.max_per_client = kPlacesOfOneClient;
  options.silent_timeout = kRequestTimeout;
  ASSIGN_OR_RETURN(server->acceptor_,
                   Acceptor::Start(*std::move(sockets), std::move(options), server->pages_.get(), registry));
  return server;
}

MetricsServer::~MetricsServer() = default;

}  // namespace coterie::net
