#include "tests/net/trace/otlp_receiver.h"

#include <openssl/ssl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "common/check.h"
#include "net/listen_socket.h"

namespace coterie::net::testing {
namespace {

constexpr char kOk[] = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n";

}  // namespace

std::string TextOf(const otlp::AnyValue& value) {
  switch (value.value_case()) {
    case otlp::AnyValue::kStringValue:
      return value.string_value();
    case otlp::AnyValue::kBoolValue:
      return value.bool_value() ? "true" : "false";
    case otlp::AnyValue::kIntValue:
      return std::to_string(value.int_value());
    case otlp::AnyValue::kDoubleValue:
      return std::to_string(value.double_value());
    case otlp::AnyValue::VALUE_NOT_SET:
      break;
  }
  return "";
}

std::string OtlpReceiver::Received::Attribute(std::string_view key) const {
  for (const otlp::KeyValue& attribute : span.attributes()) {
    if (attribute.key() == key) return TextOf(attribute.value());
  }
  return "";
}

const otlp::Span::Event* OtlpReceiver::Received::Event(std::string_view name) const {
  for (const otlp::Span::Event& event : span.events()) {
    if (event.name() == name) return &event;
  }
  return nullptr;
}

// Reads and writes one connection, with or without TLS, waiting as long as it takes or until the end.
class OtlpReceiver::Connection {
 public:
  Connection(int fd, int stop, SSL_CTX* tls) : fd_(fd), stop_(stop) {
    if (tls == nullptr) return;
    ssl_ = SSL_new(tls);
    SSL_set_fd(ssl_, fd);
    ok_ = SSL_accept(ssl_) == 1;
  }
  ~Connection() { SSL_free(ssl_); }

  bool ok() const { return ok_; }
  // False: the other side, or this one, is gone.
  bool Read(std::string* text) {
    pollfd fds[] = {{fd_, POLLIN, 0}, {stop_, POLLIN, 0}};
    char bytes[4096];
    if (ssl_ == nullptr || SSL_pending(ssl_) == 0) poll(fds, 2, -1);
    if (fds[1].revents != 0) return false;
    const ssize_t n =
        ssl_ != nullptr ? SSL_read(ssl_, bytes, sizeof(bytes)) : recv(fd_, bytes, sizeof(bytes), 0);
    if (n <= 0) return false;
    text->append(bytes, static_cast<size_t>(n));
    return true;
  }
  void Write(const std::string& text) {
    if (ssl_ != nullptr) {
      SSL_write(ssl_, text.data(), static_cast<int>(text.size()));
    } else {
      (void)send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
    }
  }

 private:
  const int fd_;
  const int stop_;
  SSL* ssl_ = nullptr;
  bool ok_ = true;
};

OtlpReceiver::OtlpReceiver(Options options) : options_(std::move(options)), stop_(eventfd(0, EFD_CLOEXEC)) {
  StatusOr<ListenSockets> listening = Listen("127.0.0.1:" + std::to_string(options_.port));
  COTERIE_CHECK(listening.ok()) << listening.status();
  port_ = listening->port;
  listening_ = std::move(listening->sockets.front());
  thread_ = std::thread([this] { Serve(); });
}

OtlpReceiver::~OtlpReceiver() {
  (void)eventfd_write(stop_.get(), 1);
  thread_.join();
}

std::string OtlpReceiver::url() const {
  return (options_.tls != nullptr ? "https://127.0.0.1:" : "http://127.0.0.1:") + std::to_string(port_);
}

void OtlpReceiver::Serve() {
  while (true) {
    pollfd fds[] = {{listening_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    poll(fds, 2, -1);
    if (fds[1].revents != 0) return;
    const FileDescriptor fd(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (fd.get() >= 0) Answer(fd.get());
  }
}

void OtlpReceiver::Answer(int fd) {
  Connection connection(fd, stop_.get(), options_.tls.get());
  std::string text;
  size_t head_end = std::string::npos;
  while (connection.ok() && head_end == std::string::npos) {
    if (!connection.Read(&text)) return;
    head_end = text.find("\r\n\r\n");
  }
  if (head_end == std::string::npos) return;
  const size_t length_at = text.find("Content-Length: ");
  size_t length = 0;
  COTERIE_CHECK(length_at < head_end) << text;
  COTERIE_CHECK(
      absl::SimpleAtoi(text.substr(length_at + 16, text.find("\r\n", length_at) - length_at - 16), &length));
  while (text.size() < head_end + 4 + length) {
    if (!connection.Read(&text)) return;
  }
  if (options_.hangs) {
    while (connection.Read(&text)) continue;
    return;
  }
  otlp::ExportTraceServiceRequest request;
  COTERIE_CHECK(request.ParseFromString(text.substr(head_end + 4)));
  int status = 200;
  {
    MutexLock lock(&mutex_);
    if (n_posts_ < options_.statuses.size()) status = options_.statuses[n_posts_];
    ++n_posts_;
    last_head_ = text.substr(0, head_end);
    for (const otlp::ResourceSpans& of : request.resource_spans()) {
      for (const otlp::ScopeSpans& scope : of.scope_spans()) {
        for (const otlp::Span& span : scope.spans()) {
          if (status != 200) continue;
          spans_.push_back({TextOf(of.resource().attributes(0).value()), span});
        }
      }
    }
    changed_.SignalAll();
  }
  otlp::ExportTraceServiceResponse response;
  if (options_.rejects > 0) response.mutable_partial_success()->set_rejected_spans(options_.rejects);
  const std::string body = response.SerializeAsString();
  connection.Write(status == 200
                       ? kOk + ("Content-Length: " + std::to_string(body.size())) + "\r\n\r\n" + body
                       : "HTTP/1.1 " + std::to_string(status) + " No\r\nContent-Length: 0\r\n\r\n");
}

std::vector<OtlpReceiver::Received> OtlpReceiver::spans() const {
  MutexLock lock(&mutex_);
  return spans_;
}

std::vector<OtlpReceiver::Received> OtlpReceiver::Named(std::string_view name) const {
  std::vector<Received> named;
  for (Received& one : spans()) {
    if (one.span.name() == name) named.push_back(std::move(one));
  }
  return named;
}

std::vector<OtlpReceiver::Received> OtlpReceiver::WaitFor(std::string_view name, size_t n,
                                                          absl::Duration timeout) const {
  const MonotonicTime until = MonotonicNow() + timeout;
  while (Named(name).size() < n && MonotonicNow() < until) {
    MutexLock lock(&mutex_);
    changed_.WaitFor(&mutex_, absl::Milliseconds(20));
  }
  return spans();
}

size_t OtlpReceiver::n_posts() const {
  MutexLock lock(&mutex_);
  return n_posts_;
}

std::string OtlpReceiver::last_head() const {
  MutexLock lock(&mutex_);
  return last_head_;
}

}  // namespace coterie::net::testing
