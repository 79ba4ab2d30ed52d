#ifndef COTERIE_GATEWAY_HTTP_SERVER_HTTP_REQUEST_H_
#define COTERIE_GATEWAY_HTTP_SERVER_HTTP_REQUEST_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net/peer_address.h"

namespace coterie::gateway::http {

using HeaderFields = std::vector<std::pair<std::string, std::string>>;

// One request, whole and checked: see RequestParser for what holds of each part.
struct HttpRequest {
  std::string method;  // as written: methods are case-sensitive
  std::string path;    // begins with "/", percent-decoded, without the query; or "*"
  bool http_1_1 = true;
  bool keep_alive = true;  // the client would like to ask more on this connection
  HeaderFields headers;    // names in lower case, in the order they came
  std::string body;
  net::PeerAddress peer;
  std::string id;  // what x-request-id says: the client's own, or drawn

  // The first of that name (in lower case); empty without one.
  std::string_view Header(std::string_view name) const {
    for (const auto& [key, value] : headers) {
      if (key == name) return value;
    }
    return {};
  }
};

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_SERVER_HTTP_REQUEST_H_
