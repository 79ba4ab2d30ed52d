#ifndef COTERIE_NET_CONNECTION_PROTOCOL_H_
#define COTERIE_NET_CONNECTION_PROTOCOL_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "net/peer_address.h"

namespace coterie::net {

// What speaks on the connections that an Acceptor accepts. All calls come from the acceptor's thread.
class ConnectionProtocol {
 public:
  enum class Opening { kIncomplete, kComplete, kWrong };
  struct IdleConnection {
    PeerAddress peer;
    int64_t token = 0;  // for StillIdle
  };

  virtual ~ConnectionProtocol() = default;
  // Judges what a new connection has sent so far, which stays there to be read.
  virtual Opening Judge(std::string_view sent) const = 0;
  // Takes a connection whose opening is complete; whoever closes `fd` from here on, the acceptor notices.
  virtual void Take(int fd) = 0;
  // What tells a client that it is turned away, and why; may be empty.
  virtual std::string Refusal(std::string_view why) const = 0;
  // Connections taken over this listener on which nothing is under way, to be closed when places run out. May
  // take milliseconds; the acceptor asks seldom.
  virtual std::vector<IdleConnection> FindIdle() { return {}; }
  virtual bool StillIdle(int64_t /*token*/) { return false; }
  // Connections whose peers break off more calls than they may. Asked twenty times a second.
  virtual std::vector<PeerAddress> FindAbusers() { return {}; }
};

}  // namespace coterie::net

#endif  // COTERIE_NET_CONNECTION_PROTOCOL_H_
