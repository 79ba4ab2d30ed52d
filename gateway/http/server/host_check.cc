#include "gateway/http/server/host_check.h"

#include <arpa/inet.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "common/status.h"

namespace coterie::gateway::http {
namespace {

// Without the port and a final dot, in lower case.
std::string NameOf(std::string_view host) {
  std::string name = absl::AsciiStrToLower(ToAbsl(host));
  const size_t colon = name.rfind(':');
  if (!name.empty() && name.front() != '[' && colon != std::string::npos) name.resize(colon);
  if (!name.empty() && name.back() == '.') name.pop_back();
  return name;
}

bool IsIpv4(const std::string& name) {
  in_addr address{};
  return inet_pton(AF_INET, name.c_str(), &address) == 1;
}

}  // namespace

HostCheck::HostCheck(const std::vector<std::string>& allowed) {
  for (const std::string& name : allowed) {
    any_ = any_ || name == "*";
    allowed_.push_back(NameOf(name));
  }
}

bool HostCheck::Allows(std::string_view host) const {
  if (any_ || host.empty() || host.front() == '[')
    return true;  // brackets hold an IPv6 address and nothing else
  const std::string name = NameOf(host);
  return name.find('.') == std::string::npos || IsIpv4(name) || absl::EndsWith(name, ".localhost") ||
         absl::EndsWith(name, ".internal") ||
         std::find(allowed_.begin(), allowed_.end(), name) != allowed_.end();
}

}  // namespace coterie::gateway::http
