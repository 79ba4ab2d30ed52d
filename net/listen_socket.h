#ifndef COTERIE_NET_LISTEN_SOCKET_H_
#define COTERIE_NET_LISTEN_SOCKET_H_

#include <string>
#include <vector>

#include "common/file_descriptor.h"
#include "common/status.h"

struct addrinfo;

namespace coterie::net {

struct ListenSockets {
  std::vector<FileDescriptor> sockets;  // one for each address the host has, all of the same port
  int port = 0;
  bool on_loopback = false;  // all of them: only this machine reaches it
};

// Listening sockets, without waiting, of "host:port", "[v6 address]:port" or ":port" (every address). Port 0
// picks a free one; "[::]" listens on IPv4 as well. Never shares a port with another process (no
// SO_REUSEPORT): two servers on one port would share its clients at random. AlreadyExists where the port is
// taken, InvalidArgument where the address is not one, or not one of this machine; both name it.
StatusOr<ListenSockets> Listen(const std::string& address);

// Whether only this machine reaches it.
bool IsLoopback(const addrinfo& info);

}  // namespace coterie::net

#endif  // COTERIE_NET_LISTEN_SOCKET_H_
