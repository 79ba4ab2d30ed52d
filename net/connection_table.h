#ifndef COTERIE_NET_CONNECTION_TABLE_H_
#define COTERIE_NET_CONNECTION_TABLE_H_

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/clock.h"
#include "net/peer_address.h"

namespace coterie::net {

// A listener's connections, by the order in which they came: who holds how many places, which have not said
// anything yet, which were handed over. Decides nothing and opens or closes nothing. Not thread-safe.
class ConnectionTable {
 public:
  using Id = uint64_t;  // grows with the time of arrival
  struct Connection {
    int fd = -1;
    ino_t inode = 0;  // of the socket: tells it from a later file under the same number
    PeerAddress peer;
    MonotonicTime opened;
    bool handed = false;  // its owner closes it, unseen
  };

  Id Add(const Connection& connection);
  void Remove(Id id);
  void MarkHanded(Id id);
  const Connection* Find(Id id) const;

  int size() const { return static_cast<int>(connections_.size()); }
  int n_silent() const { return static_cast<int>(silent_.size()); }
  int HeldBy(const PeerAddress& peer) const;
  // The one that has been silent for longest, of all or of one client's.
  std::optional<Id> OldestSilent() const;
  std::optional<Id> OldestSilentOf(const PeerAddress& peer) const;
  // In the order of arrival.
  const std::map<Id, Connection>& connections() const { return connections_; }

 private:
  struct Client {
    int n = 0;
    std::set<Id> silent;
  };
  using ClientKey = std::array<uint8_t, 16>;

  Id last_id_ = 0;
  std::map<Id, Connection> connections_;
  std::set<Id> silent_;
  absl::flat_hash_map<ClientKey, Client> clients_;
};

}  // namespace coterie::net

#endif  // COTERIE_NET_CONNECTION_TABLE_H_
