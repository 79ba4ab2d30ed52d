#include "tests/gateway/http/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/status.h"

namespace coterie::gateway::testing {

std::vector<std::string> Reply::Events() const {
  std::vector<std::string> events;
  size_t at = 0;
  while (at < body.size()) {
    size_t end = body.find("\n\n", at);
    if (end == std::string::npos) end = body.size();
    const std::string_view event = std::string_view(body).substr(at, end - at);
    if (event.substr(0, 6) == "data: ") events.emplace_back(event.substr(6));
    at = end + 2;
  }
  return events;
}

std::vector<nlohmann::json> Reply::Chunks() const {
  std::vector<nlohmann::json> chunks;
  for (const std::string& event : Events()) {
    auto json = nlohmann::json::parse(event, nullptr, /*allow_exceptions=*/false);
    if (!json.is_discarded() && json.is_object()) chunks.push_back(std::move(json));
  }
  return chunks;
}

HttpClient::HttpClient(int port, int receive_buffer_bytes)
    : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  if (receive_buffer_bytes > 0) {
    setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof(receive_buffer_bytes));
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  if (connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) Close();
}

bool HttpClient::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

bool HttpClient::ReadMore(absl::Duration timeout) {
  pollfd ready = {socket_.get(), POLLIN, 0};
  if (poll(&ready, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) <= 0) return false;
  char buffer[16384];
  const ssize_t n = recv(socket_.get(), buffer, sizeof(buffer), 0);
  if (n <= 0) return false;
  inbox_.append(buffer, static_cast<size_t>(n));
  return true;
}

std::optional<std::string> HttpClient::TakeLine(absl::Duration timeout) {
  size_t end = 0;
  while ((end = inbox_.find("\r\n")) == std::string::npos) {
    if (!ReadMore(timeout)) return std::nullopt;
  }
  std::string line = inbox_.substr(0, end);
  inbox_.erase(0, end + 2);
  return line;
}

bool HttpClient::TakeBytes(size_t n, std::string* out, absl::Duration timeout) {
  while (inbox_.size() < n) {
    if (!ReadMore(timeout)) return false;
  }
  out->append(inbox_, 0, n);
  inbox_.erase(0, n);
  return true;
}

Reply HttpClient::Read(absl::Duration timeout, bool is_head) {
  Reply reply;
  auto line = TakeLine(timeout);
  if (!line || line->size() < 12 || !absl::SimpleAtoi(line->substr(9, 3), &reply.code)) return reply;
  while ((line = TakeLine(timeout)).has_value() && !line->empty()) {
    const size_t colon = line->find(": ");
    if (colon == std::string::npos) return reply;
    reply.headers[absl::AsciiStrToLower(line->substr(0, colon))] = line->substr(colon + 2);
  }
  if (!line) return reply;
  reply.chunked = reply.headers["transfer-encoding"] == "chunked";
  if (is_head || reply.code == 204 || reply.code == 304 || reply.code == 100) {
    reply.complete = true;
  } else if (reply.chunked) {
    for (;;) {
      const auto head = TakeLine(timeout);
      uint64_t n = 0;
      if (!head || !absl::SimpleHexAtoi(*head, &n)) return reply;
      std::string crlf;
      if (!TakeBytes(n, &reply.body, timeout) || !TakeBytes(2, &crlf, timeout) || crlf != "\r\n")
        return reply;
      if (n == 0) break;
    }
    reply.complete = true;
  } else if (uint64_t n = 0; absl::SimpleAtoi(reply.headers["content-length"], &n)) {
    reply.complete = TakeBytes(n, &reply.body, timeout);
  } else {
    while (ReadMore(timeout)) {
    }
    reply.body = std::exchange(inbox_, {});
    reply.complete = true;
  }
  return reply;
}

bool HttpClient::ReadUntil(std::string_view words, absl::Duration timeout) {
  while (inbox_.find(words) == std::string::npos) {
    if (!ReadMore(timeout)) return false;
  }
  return true;
}

bool HttpClient::ClosedWithin(absl::Duration timeout) {
  const MonotonicTime until = MonotonicNow() + timeout;
  for (;;) {
    pollfd ready = {socket_.get(), POLLIN, 0};
    const absl::Duration left = until - MonotonicNow();
    if (left <= absl::ZeroDuration()) return false;
    if (poll(&ready, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1) <= 0) return false;
    char buffer[4096];
    if (recv(socket_.get(), buffer, sizeof(buffer), 0) <= 0) return true;
  }
}

void HttpClient::FinishSending() { shutdown(socket_.get(), SHUT_WR); }

void HttpClient::Reset() {
  const linger at_once = {1, 0};
  setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  Close();
}

Reply HttpClient::Get(std::string_view path, std::string_view more_headers) {
  Send(absl::StrCat("GET ", ToAbsl(path), " HTTP/1.1\r\nHost: test\r\n", ToAbsl(more_headers), "\r\n"));
  return Read();
}

std::string HttpClient::PostRequest(std::string_view path, std::string_view body,
                                    std::string_view more_headers) {
  return absl::StrCat("POST ", ToAbsl(path), " HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n",
                      ToAbsl(more_headers), "Content-Length: ", body.size(), "\r\n\r\n", ToAbsl(body));
}

Reply HttpClient::PostText(std::string_view path, std::string_view body) {
  Send(PostRequest(path, body));
  return Read();
}

Reply HttpClient::Post(std::string_view path, const nlohmann::json& body, std::string_view more_headers) {
  Send(PostRequest(path, body.dump(), more_headers));
  return Read();
}

}  // namespace coterie::gateway::testing
