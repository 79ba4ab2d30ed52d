#include "net/connection_table.h"

#include "common/check.h"

namespace coterie::net {

ConnectionTable::Id ConnectionTable::Add(const Connection& connection) {
  const Id id = ++last_id_;
  connections_.emplace(id, connection);
  Client& client = clients_[connection.peer.Client()];
  ++client.n;
  if (!connection.handed) {
    client.silent.insert(id);
    silent_.insert(id);
  }
  return id;
}

void ConnectionTable::Remove(Id id) {
  const auto it = connections_.find(id);
  COTERIE_CHECK(it != connections_.end()) << "connection " << id << " is not in the table";
  const auto client = clients_.find(it->second.peer.Client());
  client->second.silent.erase(id);
  if (--client->second.n == 0) clients_.erase(client);
  silent_.erase(id);
  connections_.erase(it);
}

void ConnectionTable::MarkHanded(Id id) {
  Connection& connection = connections_.at(id);
  connection.handed = true;
  clients_.at(connection.peer.Client()).silent.erase(id);
  silent_.erase(id);
}

const ConnectionTable::Connection* ConnectionTable::Find(Id id) const {
  const auto it = connections_.find(id);
  return it == connections_.end() ? nullptr : &it->second;
}

int ConnectionTable::HeldBy(const PeerAddress& peer) const {
  const auto it = clients_.find(peer.Client());
  return it == clients_.end() ? 0 : it->second.n;
}

std::optional<ConnectionTable::Id> ConnectionTable::OldestSilent() const {
  if (silent_.empty()) return std::nullopt;
  return *silent_.begin();
}

std::optional<ConnectionTable::Id> ConnectionTable::OldestSilentOf(const PeerAddress& peer) const {
  const auto it = clients_.find(peer.Client());
  if (it == clients_.end() || it->second.silent.empty()) return std::nullopt;
  return *it->second.silent.begin();
}

}  // namespace coterie::net
