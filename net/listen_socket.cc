#include "net/listen_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/quoted.h"

namespace coterie::net {
namespace {

// As many as the kernel keeps (net.core.somaxconn): a burst waits there rather than being dropped.
constexpr int kBacklog = 4096;
// Where two addresses of a host are to share a picked port, and another process has it on the second.
constexpr int kPickAttempts = 10;

struct HostPort {
  std::string host;
  uint16_t port = 0;
};

StatusOr<HostPort> ParseAddress(const std::string& address) {
  const auto refuse = [&](const char* why) {
    return absl::InvalidArgumentError(absl::StrCat("cannot listen on ", Quoted(address), ": ", why,
                                                   "; give host:port, such as 127.0.0.1:7070"));
  };
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return refuse("it has no port");
  HostPort parsed;
  parsed.host = address.substr(0, colon);
  uint32_t port = 0;
  if (!absl::SimpleAtoi(address.substr(colon + 1), &port) || port > 65535) {
    return refuse("the port is not a number from 0 to 65535");
  }
  parsed.port = static_cast<uint16_t>(port);
  if (parsed.host.size() >= 2 && parsed.host.front() == '[' && parsed.host.back() == ']') {
    parsed.host = parsed.host.substr(1, parsed.host.size() - 2);
  } else if (parsed.host.find(':') != std::string::npos) {
    return refuse("an IPv6 address stands in brackets");
  }
  return parsed;
}

uint16_t PortOf(int fd) {
  sockaddr_storage bound{};
  socklen_t length = sizeof(bound);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &length) != 0) return 0;
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(bound).sin6_port
                                           : reinterpret_cast<const sockaddr_in&>(bound).sin_port);
}

// One socket on `info` with this port; the error is errno's.
StatusOr<FileDescriptor> ListenOn(const addrinfo& info, uint16_t port, const std::string& address) {
  const auto fail = [&](const char* what) -> Status {
    const int error = errno;
    if (error == EADDRINUSE) {
      return absl::AlreadyExistsError(absl::StrCat(
          "cannot listen on ", address, ": the port is taken; end what listens there or take another"));
    }
    if (error == EADDRNOTAVAIL) {
      return absl::InvalidArgumentError(
          absl::StrCat("cannot listen on ", address, ": the address is not one of this machine"));
    }
    return absl::ErrnoToStatus(error, absl::StrCat("cannot listen on ", address, ": ", what));
  };
  FileDescriptor socket(::socket(info.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket.get() < 0) return fail("no socket");
  const int yes = 1, no = 0;
  // A server that was just restarted finds connections of the one before in TIME_WAIT.
  setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  // Tokens are small and wanted now. Accepted sockets take both over.
  setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  sockaddr_storage where{};
  std::copy_n(reinterpret_cast<const char*>(info.ai_addr), info.ai_addrlen, reinterpret_cast<char*>(&where));
  if (info.ai_family == AF_INET6) {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(where);
    v6.sin6_port = htons(port);
    const bool any = IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr);
    setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, any ? &no : &yes, sizeof(int));
  } else {
    reinterpret_cast<sockaddr_in&>(where).sin_port = htons(port);
  }
  if (bind(socket.get(), reinterpret_cast<const sockaddr*>(&where), info.ai_addrlen) != 0)
    return fail("bind");
  if (listen(socket.get(), kBacklog) != 0) return fail("listen");
  return socket;
}

}  // namespace

bool IsLoopback(const addrinfo& info) {
  if (info.ai_family == AF_INET6) {
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(info.ai_addr)->sin6_addr);
  }
  return ntohl(reinterpret_cast<const sockaddr_in*>(info.ai_addr)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

StatusOr<ListenSockets> Listen(const std::string& address) {
  ASSIGN_OR_RETURN(const HostPort parsed, ParseAddress(address));
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  const std::string host = parsed.host.empty() ? "::" : parsed.host;
  addrinfo* found = nullptr;
  int error = getaddrinfo(host.c_str(), "0", &hints, &found);
  if (error == 0 && parsed.host.empty()) {
    // A machine without IPv6 has no "::" to listen on.
    if (const FileDescriptor probe(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)); probe.get() < 0) {
      freeaddrinfo(found);
      error = getaddrinfo("0.0.0.0", "0", &hints, &found);
    }
  }
  if (error != 0) {
    return absl::InvalidArgumentError(absl::StrCat("cannot listen on ", address, ": the host ",
                                                   Quoted(parsed.host), " has no address here (",
                                                   gai_strerror(error), ")"));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, freeaddrinfo);

  Status failed;
  for (int attempt = 0; attempt < kPickAttempts; ++attempt) {
    ListenSockets result;
    result.port = parsed.port;
    result.on_loopback = true;
    failed = absl::OkStatus();
    for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
      if (info->ai_family != AF_INET && info->ai_family != AF_INET6) continue;
      StatusOr<FileDescriptor> socket = ListenOn(*info, static_cast<uint16_t>(result.port), address);
      if (!socket.ok()) {
        failed = socket.status();
        // localhost may name ::1 where the machine has no IPv6: one of its addresses is enough.
        if (absl::IsAlreadyExists(failed)) break;
        continue;
      }
      result.port = PortOf(socket->get());
      result.on_loopback = result.on_loopback && IsLoopback(*info);
      result.sockets.push_back(*std::move(socket));
    }
    if (!absl::IsAlreadyExists(failed) && !result.sockets.empty()) return result;
    if (parsed.port != 0 || !absl::IsAlreadyExists(failed)) break;
  }
  return failed;
}

}  // namespace coterie::net
