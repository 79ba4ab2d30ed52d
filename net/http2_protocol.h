#ifndef COTERIE_NET_HTTP2_PROTOCOL_H_
#define COTERIE_NET_HTTP2_PROTOCOL_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "grpcpp/server_builder.h"
#include "net/connection_protocol.h"
#include "net/reset_watch.h"

namespace coterie::net {

// gRPC on accepted connections.
class Http2Protocol final : public ConnectionProtocol {
 public:
  // `tls`: the first words are a TLS hello, and a refusal cannot be put into words.
  Http2Protocol(std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> grpc, bool tls,
                const ResetLimits& resets)
      : grpc_(std::move(grpc)), tls_(tls), resets_(resets) {}
  // Of the listener, once it is known: one process has several.
  void set_port(int port) { port_ = port; }

  Opening Judge(std::string_view sent) const override;
  void Take(int fd) override;
  // An answer of HTTP/1.1: a client of gRPC has failed to connect then (UNAVAILABLE), and tries again more
  // and more slowly; whoever looks with anything else reads why. HTTP/2's own way, SETTINGS and GOAWAY,
  // counts as a connection that was made, after which gRPC tries again at once, until the call's deadline.
  std::string Refusal(std::string_view why) const override;
  // Connections without a running call, by gRPC's own books (channelz).
  std::vector<IdleConnection> FindIdle() override;
  bool StillIdle(int64_t socket_id) override;
  // By the same books, which are looked into only while more calls fail or are open, on all connections
  // together, than of one connection may.
  std::vector<PeerAddress> FindAbusers() override;

 private:
  const std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> grpc_;
  const bool tls_;
  int port_ = 0;
  ResetWatch resets_;
  int64_t n_failed_ = 0;  // calls of all this process's servers, when they were last counted
  MonotonicTime counted_;
  MonotonicTime next_look_;
};

}  // namespace coterie::net

#endif  // COTERIE_NET_HTTP2_PROTOCOL_H_
