#ifndef COTERIE_NET_ACCEPTOR_H_
#define COTERIE_NET_ACCEPTOR_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "common/status.h"
#include "net/connection_metrics.h"
#include "net/connection_protocol.h"
#include "net/connection_table.h"
#include "net/listen_socket.h"

namespace coterie::net {

struct AcceptorOptions {
  std::string listener = "front";  // in metrics and log lines
  int max_connections = 8192;      // places; see PlacesForConnections
  int max_per_client = 4096;       // of them for one client (PeerAddress::Client)
  // How long a connection may take over its first words.
  absl::Duration silent_timeout = absl::Seconds(10);
  // A connection younger than this is not closed for being idle: it may be about to ask.
  absl::Duration settle = absl::Seconds(2);
  // Unacknowledged data for so long means that the peer is gone (TCP_USER_TIMEOUT).
  absl::Duration peer_timeout = absl::Seconds(20);
  // Called every second on the acceptor's thread; for what has to be looked at now and then.
  std::function<void()> every_second;
};

// Accepts connections in place of gRPC 1.51, whose own listener stops for ever the first time that accept()
// finds no descriptor (grpc/grpc#20418), and which has no limit of connections. Places are bounded in all and
// per client. A connection is handed to the protocol once it has said its first words; until then it is
// silent, costs a descriptor and nothing else, and is the first to go when others want its place. Then go
// those on which nothing is under way; when there are none, a newcomer is refused and told why. (When the
// process is out of descriptors only silent ones go, else the newcomer is refused.) A peer that breaks off
// call after call is cut off (ConnectionProtocol::FindAbusers). A thread of its own; Stop (or the destructor)
// ends it.
class Acceptor {
 public:
  // `protocol` outlives the acceptor. `registry`, which may be null, outlives it too.
  static StatusOr<std::unique_ptr<Acceptor>> Start(ListenSockets sockets, AcceptorOptions options,
                                                   ConnectionProtocol* protocol, MetricsRegistry* registry);
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  // Closes the listening sockets and every silent connection. What was handed over goes on.
  void Stop();
  int port() const { return port_; }

 private:
  using Id = ConnectionTable::Id;
  using Connection = ConnectionTable::Connection;
  struct Candidate {
    Id id = 0;
    int64_t token = 0;
  };

  Acceptor(ListenSockets sockets, AcceptorOptions options, ConnectionProtocol* protocol,
           MetricsRegistry* registry);
  Status Open();
  void Run();
  void AcceptSome(int listener);
  void Welcome(FileDescriptor socket, const PeerAddress& peer);
  // True with a place for a connection of `peer`; where there is none, why.
  bool MakePlace(const PeerAddress& peer, Refused* reason, std::string* why);
  void Look(Id id, uint32_t events);
  void CloseSilent(Id id);
  bool CloseIdle(const PeerAddress* only);
  // Ends the connections of those that break off too many calls.
  void CutOffAbusers();
  bool OutOfDescriptors(int listener);
  void Refuse(FileDescriptor socket, Refused reason, const std::string& why);
  void Pause();
  void Resume();
  void Sweep();
  void Tick();

  const AcceptorOptions options_;
  ConnectionProtocol* const protocol_;
  ConnectionMetrics metrics_;
  const int port_;
  ListenSockets sockets_;
  FileDescriptor epoll_;
  FileDescriptor stop_;   // an eventfd
  FileDescriptor spare_;  // given up for a moment, to accept and refuse where no descriptor is left
  ConnectionTable table_;
  std::deque<Candidate> candidates_;  // idle when they were last looked for
  MonotonicTime next_scan_;
  MonotonicTime next_sweep_;
  MonotonicTime next_tick_;
  MonotonicTime next_count_;
  MonotonicTime next_watch_;
  std::optional<MonotonicTime> return_memory_at_;
  MonotonicTime next_complaint_;
  int n_refused_unsaid_ = 0;
  std::optional<MonotonicTime> paused_until_;
  std::thread thread_;
};

}  // namespace coterie::net

#endif  // COTERIE_NET_ACCEPTOR_H_
