#ifndef COTERIE_TESTS_GATEWAY_HTTP_HTTP_CLIENT_H_
#define COTERIE_TESTS_GATEWAY_HTTP_HTTP_CLIENT_H_

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "common/file_descriptor.h"

namespace coterie::gateway::testing {

// What a client read of one response.
struct Reply {
  int code = 0;                                // 0: no response came
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // decoded
  bool chunked = false;
  bool complete = false;  // the body ended as its head said

  nlohmann::json Json() const { return nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false); }
  // The `data:` lines of an event stream, "[DONE]" as it is.
  std::vector<std::string> Events() const;
  // Of them those that are JSON.
  std::vector<nlohmann::json> Chunks() const;
};

// A connection that speaks HTTP as slowly or as wrongly as a test wants, over a plain socket.
class HttpClient {
 public:
  // With a receive buffer of so many bytes, where one is given.
  explicit HttpClient(int port, int receive_buffer_bytes = 0);

  bool Send(std::string_view bytes);
  // Reads the next response; waits at most `timeout` for each of its pieces.
  Reply Read(absl::Duration timeout = absl::Seconds(20), bool is_head = false);
  // Reads until `words` came in what is not yet part of a response, and leaves it there.
  bool ReadUntil(std::string_view words, absl::Duration timeout = absl::Seconds(20));
  bool ClosedWithin(absl::Duration timeout);
  // Ends the sending side only.
  void FinishSending();
  void Close() { socket_ = FileDescriptor(); }
  // Closes it with a reset.
  void Reset();

  // `more_headers`: whole lines.
  Reply Get(std::string_view path, std::string_view more_headers = {});
  Reply Post(std::string_view path, const nlohmann::json& body, std::string_view more_headers = {});
  Reply PostText(std::string_view path, std::string_view body);

  static std::string PostRequest(std::string_view path, std::string_view body,
                                 std::string_view more_headers = {});

 private:
  bool ReadMore(absl::Duration timeout);
  std::optional<std::string> TakeLine(absl::Duration timeout);
  bool TakeBytes(size_t n, std::string* out, absl::Duration timeout);

  FileDescriptor socket_;
  std::string inbox_;
};

}  // namespace coterie::gateway::testing

#endif  // COTERIE_TESTS_GATEWAY_HTTP_HTTP_CLIENT_H_
