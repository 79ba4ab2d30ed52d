#include "net/trace/http_post.h"

#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/file.h"
#include "common/file_descriptor.h"
#include "net/tls_context.h"

namespace coterie::net {
namespace {

constexpr size_t kMaxHeadBytes = 16 << 10;
constexpr size_t kMaxCaBytes = 1 << 20;
constexpr absl::Duration kConnectTime = absl::Seconds(2);  // to each of a name's addresses

struct Until {
  MonotonicTime deadline;
  int stop_fd;
};

// Until `fd` is ready for `events`.
Status WaitFor(int fd, short events, const Until& until) {
  pollfd fds[] = {{fd, events, 0}, {until.stop_fd, POLLIN, 0}};
  while (true) {
    const absl::Duration left = until.deadline - MonotonicNow();
    if (left <= absl::ZeroDuration()) return absl::DeadlineExceededError("no answer in time");
    const int n = poll(fds, 2, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1);
    if (n < 0 && errno != EINTR) return ErrnoStatus(errno, "poll", "");
    if (n <= 0) continue;
    if (fds[1].revents != 0) return absl::CancelledError("given up");
    return absl::OkStatus();
  }
}

Status SocketError(int error, std::string_view what) {
  return absl::UnavailableError(absl::StrCat(ToAbsl(what), ": ", std::strerror(error)));
}

StatusOr<FileDescriptor> ConnectTo(const addrinfo& address, const Until& until) {
  FileDescriptor fd(socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return SocketError(errno, "socket");
  if (connect(fd.get(), address.ai_addr, address.ai_addrlen) == 0) return fd;
  if (errno != EINPROGRESS) return SocketError(errno, "connect");
  RETURN_IF_ERROR(WaitFor(fd.get(), POLLOUT, until));
  int error = 0;
  socklen_t size = sizeof(error);
  getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) return SocketError(error, "connect");
  return fd;
}

StatusOr<FileDescriptor> ConnectTo(const OtlpEndpoint& endpoint, const Until& until) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(endpoint.host.c_str(), endpoint.port.c_str(), &hints, &found);
      error != 0) {
    return absl::UnavailableError(absl::StrCat("look-up of ", endpoint.host, ": ", gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, freeaddrinfo);
  StatusOr<FileDescriptor> fd = absl::UnavailableError("no address");
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    fd = ConnectTo(*one, {std::min(until.deadline, MonotonicNow() + kConnectTime), until.stop_fd});
    if (fd.ok() || absl::IsCancelled(fd.status()) || MonotonicNow() >= until.deadline) break;
  }
  return fd;
}

// A socket, with or without TLS over it.
class Connection {
 public:
  Connection(FileDescriptor fd, const Until& until) : fd_(std::move(fd)), until_(until) {}
  ~Connection() { SSL_free(ssl_); }

  Status Shake(SSL_CTX* context, const std::string& host) {
    ERR_clear_error();
    ssl_ = SSL_new(context);
    if (ssl_ == nullptr || SSL_set_fd(ssl_, fd_.get()) != 1) return absl::InternalError(TakeTlsErrors());
    X509_VERIFY_PARAM* expected = SSL_get0_param(ssl_);
    if (X509_VERIFY_PARAM_set1_ip_asc(expected, host.c_str()) != 1) {
      ERR_clear_error();  // a name, then
      SSL_set_tlsext_host_name(ssl_, host.c_str());
      SSL_set1_host(ssl_, host.c_str());
    }
    return Repeat([this] { return SSL_connect(ssl_); }).status();
  }

  Status Write(std::string_view bytes) {
    while (!bytes.empty()) {
      size_t n = 0;
      if (ssl_ != nullptr) {
        ASSIGN_OR_RETURN(n, Repeat([&] { return SSL_write(ssl_, bytes.data(), SizeOf(bytes.size())); }));
      } else {
        const ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) return SocketError(errno, "send");
        if (sent < 0) {
          RETURN_IF_ERROR(WaitFor(fd_.get(), POLLOUT, until_));
          continue;
        }
        n = static_cast<size_t>(sent);
      }
      bytes.remove_prefix(n);
    }
    return absl::OkStatus();
  }

  // At least one byte; 0 at the end.
  StatusOr<size_t> Read(char* bytes, size_t size) {
    if (ssl_ != nullptr) return Repeat([&] { return SSL_read(ssl_, bytes, SizeOf(size)); });
    while (true) {
      const ssize_t n = recv(fd_.get(), bytes, size, 0);
      if (n >= 0) return static_cast<size_t>(n);
      if (errno != EAGAIN && errno != EINTR) return SocketError(errno, "recv");
      RETURN_IF_ERROR(WaitFor(fd_.get(), POLLIN, until_));
    }
  }

 private:
  static int SizeOf(size_t n) { return static_cast<int>(std::min<size_t>(n, 1 << 20)); }

  // Until OpenSSL has done it: it says what it waits for. 0: the other side has closed.
  template <typename Call>
  StatusOr<size_t> Repeat(Call call) {
    while (true) {
      ERR_clear_error();
      const int n = call();
      if (n > 0) return static_cast<size_t>(n);
      switch (SSL_get_error(ssl_, n)) {
        case SSL_ERROR_WANT_READ:
          RETURN_IF_ERROR(WaitFor(fd_.get(), POLLIN, until_));
          break;
        case SSL_ERROR_WANT_WRITE:
          RETURN_IF_ERROR(WaitFor(fd_.get(), POLLOUT, until_));
          break;
        case SSL_ERROR_ZERO_RETURN:
          return 0;
        default:
          return absl::UnavailableError(absl::StrCat("TLS: ", TakeHandshakeErrors(ssl_)));
      }
    }
  }

  FileDescriptor fd_;
  const Until until_;
  SSL* ssl_ = nullptr;
};

// The status of "HTTP/1.1 200 OK"; 0 where it is none.
int StatusIn(std::string_view head) {
  int status = 0;
  if (!absl::StartsWith(ToAbsl(head), "HTTP/1.") || head.size() < 12 || head[8] != ' ') return 0;
  return absl::SimpleAtoi(ToAbsl(head.substr(9, 3)), &status) && status >= 100 ? status : 0;
}

// What a Content-Length says; without one, all that comes until the other side closes.
size_t LengthIn(std::string_view head) {
  size_t length = HttpPoster::kMaxAnswerBytes;
  for (size_t line = head.find("\r\n"); line != std::string_view::npos; line = head.find("\r\n", line + 2)) {
    constexpr std::string_view kName = "content-length:";
    const std::string_view rest = head.substr(line + 2);
    if (!absl::StartsWithIgnoreCase(ToAbsl(rest), ToAbsl(kName))) continue;
    const std::string_view value = rest.substr(kName.size(), rest.find("\r\n") - kName.size());
    if (!absl::SimpleAtoi(ToAbsl(value), &length)) return 0;
  }
  return std::min(length, HttpPoster::kMaxAnswerBytes);
}

StatusOr<HttpAnswer> ReadAnswer(Connection* connection) {
  std::string text;
  char bytes[4096];
  size_t head_end = std::string::npos;
  while (head_end == std::string::npos) {
    if (text.size() > kMaxHeadBytes) return absl::UnavailableError("its answer's headers have no end");
    ASSIGN_OR_RETURN(const size_t n, connection->Read(bytes, sizeof(bytes)));
    if (n == 0) return absl::UnavailableError("it closed the connection without an answer");
    text.append(bytes, n);
    head_end = text.find("\r\n\r\n");
  }
  const std::string_view head = std::string_view(text).substr(0, head_end + 2);
  HttpAnswer answer{StatusIn(head), ""};
  if (answer.status == 0) return absl::UnavailableError("its answer is no HTTP");
  const size_t length = LengthIn(head);
  answer.body = text.substr(head_end + 4);
  // The status is what counts: a body that does not come whole is left.
  while (answer.body.size() < length) {
    const StatusOr<size_t> n = connection->Read(bytes, sizeof(bytes));
    if (!n.ok() || *n == 0) break;
    answer.body.append(bytes, *n);
  }
  answer.body.resize(std::min(answer.body.size(), length));
  return answer;
}

// The file's lines as a request has them.
StatusOr<std::string> ReadHeaders(const std::string& file) {
  if (file.empty()) return std::string();
  ASSIGN_OR_RETURN(const std::string text, ReadFile(file, kMaxHeadBytes));
  std::string headers;
  int n = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++n;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    const size_t colon = line.find(':');
    const absl::string_view name = line.substr(0, colon);
    const bool named = colon != absl::string_view::npos && !name.empty() &&
                       std::all_of(name.begin(), name.end(),
                                   [](char c) { return absl::ascii_isalnum(c) || c == '-' || c == '_'; });
    if (!named || std::any_of(line.begin(), line.end(), [](char c) { return absl::ascii_iscntrl(c); })) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ": line ", n, " is no header; \"name: value\" is expected"));
    }
    absl::StrAppend(&headers, name, ": ", absl::StripAsciiWhitespace(line.substr(colon + 1)), "\r\n");
  }
  return headers;
}

StatusOr<std::shared_ptr<SSL_CTX>> MakeClientContext(const std::string& ca_file) {
  const std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (ca_file.empty()) {
    SSL_CTX_set_default_verify_paths(context.get());
    return context;
  }
  RETURN_IF_ERROR(ReadFile(ca_file, kMaxCaBytes).status());  // says what is wrong in our words
  ERR_clear_error();
  if (SSL_CTX_load_verify_locations(context.get(), ca_file.c_str(), nullptr) != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(ca_file, " has no certificates in PEM: ", TakeTlsErrors()));
  }
  return context;
}

}  // namespace

StatusOr<std::unique_ptr<HttpPoster>> HttpPoster::Create(OtlpEndpoint endpoint, const std::string& ca_file,
                                                         std::string headers_file) {
  RETURN_IF_ERROR(ReadHeaders(headers_file).status());
  if (!endpoint.tls && !ca_file.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        ca_file, " is to vouch for a receiver that is spoken to over http://; https:// is meant"));
  }
  std::shared_ptr<SSL_CTX> context;
  if (endpoint.tls) {
    ASSIGN_OR_RETURN(context, MakeClientContext(ca_file));
  }
  return std::unique_ptr<HttpPoster>(
      new HttpPoster(std::move(endpoint), std::move(context), std::move(headers_file)));
}

StatusOr<HttpAnswer> HttpPoster::Post(std::string_view content_type, std::string_view body,
                                      MonotonicTime deadline, int stop_fd) const {
  const Until until{deadline, stop_fd};
  ASSIGN_OR_RETURN(const std::string headers, ReadHeaders(headers_file_));
  ASSIGN_OR_RETURN(FileDescriptor fd, ConnectTo(endpoint_, until));
  Connection connection(std::move(fd), until);
  if (tls_ != nullptr) RETURN_IF_ERROR(connection.Shake(tls_.get(), endpoint_.host));
  RETURN_IF_ERROR(connection.Write(
      absl::StrCat("POST ", endpoint_.path, " HTTP/1.1\r\nHost: ", endpoint_.authority,
                   "\r\nUser-Agent: coterie\r\n", "Content-Type: ", ToAbsl(content_type),
                   "\r\nContent-Length: ", body.size(), "\r\n", headers, "Connection: close\r\n\r\n")));
  RETURN_IF_ERROR(connection.Write(body));
  return ReadAnswer(&connection);
}

}  // namespace coterie::net
