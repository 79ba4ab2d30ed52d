#include "net/peer_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <iterator>

namespace coterie::net {
namespace {

constexpr std::array<uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool IsV4(const std::array<uint8_t, 16>& ip) {
  return std::equal(kMapped.begin(), kMapped.end(), ip.begin());
}

}  // namespace

PeerAddress PeerAddress::FromBytes(std::string_view ip, uint16_t port) {
  PeerAddress result;
  result.port = port;
  if (ip.size() == 16) std::copy(ip.begin(), ip.end(), result.ip.begin());
  if (ip.size() == 4) {
    std::copy(kMapped.begin(), kMapped.end(), result.ip.begin());
    std::copy(ip.begin(), ip.end(), result.ip.begin() + kMapped.size());
  }
  return result;
}

PeerAddress PeerAddress::FromSockaddr(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return FromBytes({reinterpret_cast<const char*>(&v4.sin_addr), 4}, ntohs(v4.sin_port));
  }
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    return FromBytes({reinterpret_cast<const char*>(&v6.sin6_addr), 16}, ntohs(v6.sin6_port));
  }
  return {};
}

std::array<uint8_t, 16> PeerAddress::Client() const {
  std::array<uint8_t, 16> client = ip;
  if (!IsV4(ip)) std::fill(client.begin() + 8, client.end(), 0);
  return client;
}

std::string PeerAddress::ToString() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (IsV4(ip)) {
    inet_ntop(AF_INET, ip.data() + kMapped.size(), text, sizeof(text));
  } else {
    inet_ntop(AF_INET6, ip.data(), text, sizeof(text));
  }
  return text;
}

}  // namespace coterie::net
