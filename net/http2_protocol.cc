#include "net/http2_protocol.h"

#include <grpc/grpc.h>
#include <grpc/support/alloc.h>

#include <algorithm>
#include <cstdint>
#include <optional>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "nlohmann/json.hpp"

namespace coterie::net {
namespace {

using Json = nlohmann::json;

// RFC 9113, 3.4: what a client says first.
constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// An answer of gRPC's channelz, which is JSON whose 64-bit numbers are strings. Null where it is none.
Json Parse(char* text) {
  if (text == nullptr) return nullptr;
  Json parsed = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  gpr_free(text);
  return parsed.is_discarded() ? Json() : parsed;
}

const Json& Member(const Json& object, const char* name) {
  static const Json* const none = new Json();
  if (!object.is_object()) return *none;
  const auto found = object.find(name);
  return found == object.end() ? *none : *found;
}

int64_t Number(const Json& value) {
  int64_t number = 0;
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_string()) (void)absl::SimpleAtoi(ToAbsl(value.get_ref<const std::string&>()), &number);
  return number;
}

std::optional<PeerAddress> Address(const Json& end) {
  const Json& tcp = Member(end, "tcpip_address");
  const Json& ip = Member(tcp, "ip_address");
  std::string bytes;
  if (!ip.is_string() || !absl::Base64Unescape(ToAbsl(ip.get_ref<const std::string&>()), &bytes))
    return std::nullopt;
  return PeerAddress::FromBytes(bytes, static_cast<uint16_t>(Number(Member(tcp, "port"))));
}

bool IsIdle(const Json& socket) {
  const Json& data = Member(socket, "data");
  return data.is_object() &&
         Number(Member(data, "streamsStarted")) ==
             Number(Member(data, "streamsSucceeded")) + Number(Member(data, "streamsFailed"));
}

// Calls use(peer, socket's id, its books) for each connection that came in by `port`.
template <typename Use>
void ForEachSocket(int port, Use use) {
  const Json servers = Parse(grpc_channelz_get_servers(0));
  for (const Json& server : Member(servers, "server")) {
    const int64_t server_id = Number(Member(Member(server, "ref"), "serverId"));
    for (int64_t next = 0;;) {
      const Json page = Parse(grpc_channelz_get_server_sockets(server_id, next, 0));
      const Json& refs = Member(page, "socketRef");
      if (!refs.is_array() || refs.empty()) break;
      for (const Json& ref : refs) {
        const int64_t id = Number(Member(ref, "socketId"));
        next = std::max(next, id + 1);
        const Json answer = Parse(grpc_channelz_get_socket(id));
        const Json& socket = Member(answer, "socket");
        const std::optional<PeerAddress> remote = Address(Member(socket, "remote"));
        const std::optional<PeerAddress> local = Address(Member(socket, "local"));
        if (!remote.has_value() || (local.has_value() && local->port != port)) continue;
        use(*remote, id, socket);
      }
      const Json& end = Member(page, "end");
      if (end.is_boolean() && end.get<bool>()) break;
    }
  }
}

}  // namespace

ConnectionProtocol::Opening Http2Protocol::Judge(std::string_view sent) const {
  if (tls_) return Opening::kComplete;  // gRPC's own handshake judges, and bounds its time
  const size_t n = std::min(sent.size(), kPreface.size());
  if (sent.substr(0, n) != kPreface.substr(0, n)) return Opening::kWrong;
  return n == kPreface.size() ? Opening::kComplete : Opening::kIncomplete;
}

void Http2Protocol::Take(int fd) {
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
  connection.fd = fd;
  grpc_->HandleNewConnection(&connection);
}

std::string Http2Protocol::Refusal(std::string_view why) const {
  if (tls_) return "";
  return absl::StrCat("HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: ",
                      why.size() + 1, "\r\nConnection: close\r\n\r\n", ToAbsl(why), "\n");
}

std::vector<ConnectionProtocol::IdleConnection> Http2Protocol::FindIdle() {
  std::vector<IdleConnection> idle;
  ForEachSocket(port_, [&](const PeerAddress& peer, int64_t id, const Json& socket) {
    if (IsIdle(socket)) idle.push_back({peer, id});
  });
  return idle;
}

std::vector<PeerAddress> Http2Protocol::FindAbusers() {
  // Of the time between two looks a tenth at most is spent looking.
  constexpr int kShareOfTime = 10;
  const MonotonicTime now = MonotonicNow();
  if (now < next_look_) return {};
  int64_t n_failed = 0;
  int64_t n_open = 0;
  const Json servers = Parse(grpc_channelz_get_servers(0));
  for (const Json& server : Member(servers, "server")) {
    const Json& data = Member(server, "data");
    n_failed += Number(Member(data, "callsFailed"));
    n_open += Number(Member(data, "callsStarted")) - Number(Member(data, "callsSucceeded")) -
              Number(Member(data, "callsFailed"));
  }
  const auto more = static_cast<double>(n_failed - n_failed_);
  const double seconds = absl::ToDoubleSeconds(std::min(now - counted_, absl::Seconds(1)));
  n_failed_ = n_failed;
  counted_ = now;
  std::vector<PeerAddress> abusers;
  const ResetLimits& limits = resets_.limits();
  if (more < limits.per_second * seconds && n_open <= limits.most_open) return abusers;
  ForEachSocket(port_, [&](const PeerAddress& peer, int64_t id, const Json& socket) {
    const Json& data = Member(socket, "data");
    // A stream fails that ends without our last word.
    const int64_t failed = Number(Member(data, "streamsFailed"));
    const int64_t open =
        Number(Member(data, "streamsStarted")) - Number(Member(data, "streamsSucceeded")) - failed;
    if (resets_.Exceeds(id, failed, now) || open > limits.most_open) abusers.push_back(peer);
  });
  resets_.ForgetOthers();
  const MonotonicTime end = MonotonicNow();
  next_look_ = end + (kShareOfTime - 1) * (end - now);
  return abusers;
}

bool Http2Protocol::StillIdle(int64_t socket_id) {
  return IsIdle(Member(Parse(grpc_channelz_get_socket(socket_id)), "socket"));
}

}  // namespace coterie::net
