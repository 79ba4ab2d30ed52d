#include "gateway/http/server/http_server.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <boost/asio/ip/tcp.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/file_descriptor.h"
#include "gateway/http/server/connection.h"
#include "gateway/http/server/loop.h"
#include "net/connection_protocol.h"
#include "net/listen_socket.h"

namespace coterie::gateway::http {
namespace {

// Hands accepted connections to the loops in turn.
class HttpProtocol final : public net::ConnectionProtocol {
 public:
  HttpProtocol(std::shared_ptr<ServerShared> shared, const std::vector<std::shared_ptr<Loop>>* loops)
      : shared_(std::move(shared)), loops_(loops) {}

  // Whatever it says, the connection answers it: also to speakers of something else.
  Opening Judge(std::string_view sent) const override {
    return sent.empty() ? Opening::kIncomplete : Opening::kComplete;
  }

  void Take(int fd) override {
    const std::shared_ptr<Loop>& loop = (*loops_)[n_taken_++ % loops_->size()];
    auto owned = std::make_shared<FileDescriptor>(fd);
    loop->Post([loop, owned] {
      sockaddr_storage address{};
      socklen_t length = sizeof(address);
      if (getpeername(owned->get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) return;
      boost::asio::ip::tcp::socket socket(loop->context());
      boost::system::error_code ec;
      const auto protocol =
          address.ss_family == AF_INET6 ? boost::asio::ip::tcp::v6() : boost::asio::ip::tcp::v4();
      socket.assign(protocol, owned->get(), ec);
      if (ec) return;
      owned->Release();
      std::make_shared<Connection>(loop, std::move(socket), net::PeerAddress::FromSockaddr(address))->Start();
    });
  }

  std::string Refusal(std::string_view why) const override {
    if (shared_->tls != nullptr) return "";  // before a handshake nothing can be put into words
    HttpResponse response = ErrorResponse(503, why);
    response.headers.emplace_back("Retry-After", "1");
    ResponseHead head;
    head.length = static_cast<int64_t>(response.body->size());
    head.close = true;
    head.request_id = "none";
    return FormatHead(response, head) + *response.body;
  }

  std::vector<IdleConnection> FindIdle() override { return shared_->idle.All(); }
  bool StillIdle(int64_t token) override { return shared_->idle.Has(token); }

 private:
  const std::shared_ptr<ServerShared> shared_;
  const std::vector<std::shared_ptr<Loop>>* const loops_;
  size_t n_taken_ = 0;
};

class HttpServerImpl final : public HttpServer {
 public:
  HttpServerImpl(HttpServerOptions options, Handler handler, MetricsRegistry* registry,
                 std::shared_ptr<net::TlsIdentity> tls)
      : shared_(
            std::make_shared<ServerShared>(std::move(options), std::move(handler), registry, std::move(tls))),
        protocol_(shared_, &loops_) {}

  ~HttpServerImpl() override {
    acceptor_.reset();
    for (const auto& loop : loops_) loop->Stop();
  }

  Status Start(net::AcceptorOptions connections, MetricsRegistry* registry) {
    const HttpServerOptions& options = shared_->options;
    ASSIGN_OR_RETURN(net::ListenSockets sockets, net::Listen(options.listen));
    shared_->on_loopback = sockets.on_loopback;
    for (int i = 0; i < options.threads; ++i) {
      loops_.push_back(std::make_shared<Loop>(shared_));
      loops_.back()->Start();
    }
    ASSIGN_OR_RETURN(acceptor_,
                     net::Acceptor::Start(std::move(sockets), std::move(connections), &protocol_, registry));
    return absl::OkStatus();
  }

  int port() const override { return acceptor_->port(); }

  void BeginDrain() override {
    shared_->draining = true;
    for (const auto& loop : loops_) loop->Post([loop] { loop->CloseIdle(); });
  }

  bool Drain(absl::Duration patience) override {
    BeginDrain();
    acceptor_->Stop();
    const MonotonicTime until = MonotonicNow() + patience;
    while (shared_->n_under_way() > 0 && MonotonicNow() < until) absl::SleepFor(absl::Milliseconds(5));
    return shared_->n_under_way() == 0;
  }

 private:
  const std::shared_ptr<ServerShared> shared_;
  std::vector<std::shared_ptr<Loop>> loops_;
  HttpProtocol protocol_;
  std::unique_ptr<net::Acceptor> acceptor_;
};

}  // namespace

StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(HttpServerOptions options,
                                                        net::AcceptorOptions connections, Handler handler,
                                                        MetricsRegistry* registry,
                                                        std::shared_ptr<net::TlsIdentity> tls) {
  if (options.threads < 1 || options.threads > 64) {
    return absl::InvalidArgumentError(
        absl::StrCat("the HTTP listener has ", options.threads, " threads, must have 1 to 64"));
  }
  auto server =
      std::make_unique<HttpServerImpl>(std::move(options), std::move(handler), registry, std::move(tls));
  RETURN_IF_ERROR(server->Start(std::move(connections), registry));
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace coterie::gateway::http
