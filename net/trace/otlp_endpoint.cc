#include "net/trace/otlp_endpoint.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "common/quoted.h"

namespace coterie::net {
namespace {

constexpr size_t kMaxUrlBytes = 2048;

bool TakePrefix(std::string_view prefix, std::string_view* text) {
  if (text->substr(0, prefix.size()) != prefix) return false;
  text->remove_prefix(prefix.size());
  return true;
}

// What goes into the request's first line and its Host header must not end them.
bool IsPlain(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

}  // namespace

StatusOr<OtlpEndpoint> OtlpEndpoint::Parse(std::string_view url) {
  const auto refuse = [url](std::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(url), ToAbsl(why), "; http://HOST:PORT or https://HOST:PORT is expected"));
  };
  if (url.size() > kMaxUrlBytes) return refuse(" is too long");
  if (!IsPlain(url)) return refuse(" has characters that no URL has");
  OtlpEndpoint endpoint;
  std::string_view rest = url;
  endpoint.tls = TakePrefix("https://", &rest);
  if (!endpoint.tls && !TakePrefix("http://", &rest))
    return refuse(" begins with neither http:// nor https://");
  if (rest.find_first_of("?#") != std::string_view::npos) return refuse(" has a query or a fragment");
  const std::string_view authority = rest.substr(0, rest.find('/'));
  std::string_view path = rest.substr(authority.size());
  // It would stand in process lists.
  if (authority.find('@') != std::string_view::npos) {
    return absl::InvalidArgumentError(
        "the URL names a user or a password, which everybody on the machine can read");
  }
  endpoint.authority = authority;
  std::string_view port;
  if (!authority.empty() && authority.front() == '[') {
    const size_t close = authority.find(']');
    if (close == std::string_view::npos) return refuse(" has a [ without its ]");
    endpoint.host = authority.substr(1, close - 1);
    port = authority.substr(close + 1);
    if (!port.empty() && !TakePrefix(":", &port))
      return refuse(" has something other than a port behind its ]");
  } else {
    const size_t colon = authority.find(':');
    endpoint.host = authority.substr(0, colon);
    if (colon != std::string_view::npos) port = authority.substr(colon + 1);
    if (colon != std::string_view::npos && port.empty()) return refuse(" has no port behind its colon");
  }
  if (endpoint.host.empty()) return refuse(" names no host");
  endpoint.port = port.empty() ? (endpoint.tls ? "443" : "80") : std::string(port);
  int number = 0;
  if (endpoint.port.find_first_not_of("0123456789") != std::string::npos ||
      !absl::SimpleAtoi(endpoint.port, &number) || number < 1 || number > 65535) {
    return refuse(" has a port that is none");
  }
  while (!path.empty() && path.back() == '/') path.remove_suffix(1);
  endpoint.path = absl::StrCat(ToAbsl(path), "/v1/traces");
  return endpoint;
}

}  // namespace coterie::net
