#ifndef COTERIE_GATEWAY_HTTP_SERVER_REQUEST_PARSER_H_
#define COTERIE_GATEWAY_HTTP_SERVER_REQUEST_PARSER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "gateway/http/server/http_request.h"

namespace coterie::gateway::http {

struct ParserLimits {
  size_t max_head_bytes = 16 << 10;   // request line and headers; a chunk's head and the trailer as well
  size_t max_target_bytes = 4 << 10;  // of the request line
  size_t max_headers = 100;           // their number
  uint64_t max_body_bytes = 4 << 20;  // decoded
};

// One request of HTTP/1.0 or 1.1 out of the bytes of a connection, in pieces of any size. Strict where
// readers disagree on where a message ends, since that is what request smuggling lives on: two lengths, a
// length beside a transfer coding, any coding but "chunked", blanks before a colon, bare line feeds, a
// missing or second Host are refused. Beast's parser does the syntax; the limits and the rest are here. Not
// thread-safe.
class RequestParser {
 public:
  enum class State { kHead, kBody, kDone, kRefused };
  // What the client is told, and that the connection cannot go on.
  struct Refusal {
    int code = 0;
    std::string words;
  };

  explicit RequestParser(const ParserLimits& limits);
  ~RequestParser();

  // Takes what it can of `bytes`, which begin where the last call left off, and says how much that was; the
  // rest comes again with more behind it. Takes nothing once it is done.
  size_t Put(std::string_view bytes);

  State state() const;
  bool begun() const;              // something of the request has come
  const Refusal& refusal() const;  // of kRefused
  // Of kBody: the client waits for "100 Continue" before it sends the body.
  bool awaits_continue() const;
  size_t body_bytes() const;  // so far
  bool is_head() const;       // of a request whose head was read, or as far as that is known
  // The client's own, as far as it was read, else one that is drawn; for a request that is refused.
  std::string RequestId() const;
  HttpRequest Take();  // of kDone, once

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

// An id that a client may choose for its request: 1 to 64 letters, digits and ._:-
bool IsRequestId(std::string_view id);

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_SERVER_REQUEST_PARSER_H_
