#include "gateway/upstream/worker_directory.h"

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/quoted.h"

namespace coterie::gateway {
namespace {

constexpr std::string_view kDnsScheme = "dns:///";

// The position of the colon before the port.
StatusOr<size_t> CheckHostPort(const std::string& text) {
  const size_t colon = text.rfind(':');
  int port = 0;
  if (colon == std::string::npos || colon == 0 || !absl::SimpleAtoi(text.substr(colon + 1), &port) ||
      port < 1 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("--workers: ", Quoted(text), " is not host:port with a port in [1, 65535]"));
  }
  return colon;
}

std::string FormatAddress(const addrinfo& info) {
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (getnameinfo(info.ai_addr, info.ai_addrlen, host, sizeof(host), port, sizeof(port),
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "";
  }
  return info.ai_family == AF_INET6 ? absl::StrCat("[", host, "]:", port) : absl::StrCat(host, ":", port);
}

}  // namespace

StatusOr<WorkerDirectory> WorkerDirectory::Parse(std::string_view text) {
  WorkerDirectory directory;
  absl::string_view rest = ToAbsl(text);
  if (absl::ConsumePrefix(&rest, ToAbsl(kDnsScheme))) {
    const std::string name(rest);
    ASSIGN_OR_RETURN(const size_t colon, CheckHostPort(name));
    directory.name_ = name.substr(0, colon);
    directory.port_ = name.substr(colon + 1);
    return directory;
  }
  for (absl::string_view part : absl::StrSplit(rest, ',', absl::SkipWhitespace())) {
    const std::string address(absl::StripAsciiWhitespace(part));
    RETURN_IF_ERROR(CheckHostPort(address).status());
    directory.addresses_.push_back(address);
  }
  if (directory.addresses_.empty()) {
    return absl::InvalidArgumentError(
        "--workers names no worker; give host:port[,host:port...] or dns:///name:port");
  }
  if (directory.addresses_.size() > kMaxWorkers) {
    return absl::InvalidArgumentError(absl::StrCat("--workers names ", directory.addresses_.size(),
                                                   " workers, at most ", kMaxWorkers, " are served"));
  }
  std::sort(directory.addresses_.begin(), directory.addresses_.end());
  const auto twin = std::adjacent_find(directory.addresses_.begin(), directory.addresses_.end());
  if (twin != directory.addresses_.end()) {
    return absl::InvalidArgumentError(absl::StrCat("--workers names ", *twin, " twice"));
  }
  return directory;
}

StatusOr<std::vector<std::string>> WorkerDirectory::Resolve() const {
  if (name_.empty()) return addresses_;
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(name_.c_str(), port_.c_str(), &hints, &found);
  if (error != 0) {
    return absl::UnavailableError(
        absl::StrCat("workers' name ", name_, " cannot be resolved: ", gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  std::vector<std::string> addresses;
  for (const addrinfo* info = found; info != nullptr && addresses.size() < kMaxWorkers;
       info = info->ai_next) {
    std::string address = FormatAddress(*info);
    if (!address.empty()) addresses.push_back(std::move(address));
  }
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
  return addresses;
}

std::string WorkerDirectory::ToString() const {
  if (!name_.empty()) return absl::StrCat(ToAbsl(kDnsScheme), name_, ":", port_);
  return absl::StrJoin(addresses_, ",");
}

}  // namespace coterie::gateway
