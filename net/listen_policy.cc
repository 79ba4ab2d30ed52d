#include "net/listen_policy.h"

#include <netdb.h>
#include <sys/socket.h>

#include <memory>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "common/quoted.h"
#include "net/listen_socket.h"

namespace coterie::net {
bool IsLoopback(const std::string& address) {
  std::string host = address.substr(0, address.rfind(':'));
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (host.empty()) return false;
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return false;
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(found, freeaddrinfo);
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    if (!IsLoopback(*one)) return false;
  }
  return found != nullptr;
}

Status CheckListeners(const std::vector<ListenerAccess>& listeners, bool insecure_listen) {
  if (insecure_listen) return absl::OkStatus();
  std::string open;
  for (const ListenerAccess& one : listeners) {
    if (one.address.empty() || one.guarded || IsLoopback(one.address)) continue;
    absl::StrAppend(&open, open.empty() ? "" : "; ", one.flag, "=", Shown(one.address), " wants ", one.how);
  }
  if (open.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("others than this machine would reach, and nothing would keep strangers out: ", open,
                   ". Where the network itself keeps them out, say --insecure-listen"));
}

}  // namespace coterie::net
