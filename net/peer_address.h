#ifndef COTERIE_NET_PEER_ADDRESS_H_
#define COTERIE_NET_PEER_ADDRESS_H_

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace coterie::net {

// Where a connection comes from. IPv4 is kept as IPv6 writes it (::ffff:a.b.c.d), so that one client is the
// same whichever socket it came in through.
struct PeerAddress {
  std::array<uint8_t, 16> ip{};
  uint16_t port = 0;

  static PeerAddress FromSockaddr(const sockaddr_storage& address);
  // From the 4 or 16 bytes of an IP address; all zeros for other lengths.
  static PeerAddress FromBytes(std::string_view ip, uint16_t port);

  // The ends of one client: an IPv4 address, or the 64 bits of an IPv6 network, all of whose addresses one
  // holder usually has.
  std::array<uint8_t, 16> Client() const;
  // Without the port.
  std::string ToString() const;

  friend bool operator==(const PeerAddress& a, const PeerAddress& b) {
    return a.ip == b.ip && a.port == b.port;
  }
  template <typename H>
  friend H AbslHashValue(H h, const PeerAddress& a) {
    return H::combine(std::move(h), a.ip, a.port);
  }
};

}  // namespace coterie::net

#endif  // COTERIE_NET_PEER_ADDRESS_H_
