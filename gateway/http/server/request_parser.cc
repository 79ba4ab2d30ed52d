#include "gateway/http/server/request_parser.h"

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/quoted.h"
#include "common/utf8.h"
#include "gateway/core/request.h"

namespace coterie::gateway::http {
namespace {

namespace beast_http = boost::beast::http;
using boost::beast::error_code;

std::string_view ToStdView(boost::beast::string_view text) { return {text.data(), text.size()}; }

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return absl::EqualsIgnoreCase(ToAbsl(a), ToAbsl(b));
}

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// False for a "%" without two hexadecimal digits behind it, and for what decodes to control characters or no
// UTF-8.
bool PercentDecode(std::string_view text, std::string* out) {
  out->clear();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out->push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size()) return false;
    const int high = HexValue(text[i + 1]), low = HexValue(text[i + 2]);
    if (high < 0 || low < 0) return false;
    const auto byte = static_cast<unsigned char>(high * 16 + low);
    if (byte < 0x20 || byte == 0x7f) return false;
    out->push_back(static_cast<char>(byte));
    i += 2;
  }
  return IsWellFormed(*out);
}

// The path of a request's target in origin form ("/a?b"), absolute form ("http://host/a") or "*".
bool PathOfTarget(std::string_view target, std::string* path) {
  for (const char c : target) {
    if (c <= 0x20 || c >= 0x7f) return false;
  }
  if (target == "*") {
    *path = "*";
    return true;
  }
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!EqualsIgnoringCase(target.substr(0, scheme.size()), scheme)) continue;
    target.remove_prefix(scheme.size());
    const size_t end = target.find_first_of("/?#");
    if (target.empty() || end == 0) return false;  // no host
    target = end == std::string_view::npos ? "/" : target.substr(end);
    if (target.front() != '/') target = "/";
    break;
  }
  if (target.empty() || target.front() != '/') return false;
  return PercentDecode(target.substr(0, target.find_first_of("?#")), path);
}

// Whether a request line ends in a version that is one, but not ours: "PRI * HTTP/2.0".
bool NamesOtherVersion(std::string_view line) {
  const size_t at = line.rfind(" HTTP/");
  if (at == std::string_view::npos) return false;
  const std::string_view version = line.substr(at + 6);
  return version.size() == 3 && absl::ascii_isdigit(static_cast<unsigned char>(version[0])) &&
         version[1] == '.' && absl::ascii_isdigit(static_cast<unsigned char>(version[2])) &&
         version != "1.0" && version != "1.1";
}

}  // namespace

bool IsRequestId(std::string_view id) {
  if (id.empty() || id.size() > 64) return false;
  for (const char c : id) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '_' && c != ':' && c != '-') {
      return false;
    }
  }
  return true;
}

class RequestParser::Impl final : public beast_http::basic_parser<true> {
 public:
  explicit Impl(const ParserLimits& limits) : limits_(limits) {
    eager(true);
    header_limit(static_cast<uint32_t>(limits.max_head_bytes));
    body_limit(limits.max_body_bytes);
  }

  size_t PutSome(std::string_view bytes) {
    if (refusal_.code != 0 || is_done()) return 0;
    // Empty lines between requests are passed over (RFC 9112, 2.2), a few of them.
    size_t skipped = 0;
    while (!got_some() && n_blank_ < kMaxBlankBytes && skipped < bytes.size() &&
           (bytes[skipped] == '\r' || bytes[skipped] == '\n')) {
      ++skipped;
      ++n_blank_;
    }
    bytes.remove_prefix(skipped);
    if (bytes.empty()) return skipped;
    size_t taken = 0;
    while (refusal_.code == 0 && !is_done()) {
      const std::string_view rest = bytes.substr(taken);
      error_code ec;
      const size_t n = put(boost::asio::const_buffer(rest.data(), rest.size()), ec);
      taken += n;
      if (!ec) {
        if (n == 0) break;
        continue;
      }
      if (ec == beast_http::error::need_more) {
        // Beast wants a chunk's head and the trailer in one piece.
        if (rest.size() - n >= limits_.max_head_bytes) {
          Refuse(is_header_done() ? 400 : 431,
                 absl::StrCat(is_header_done() ? "the head of a chunk" : "the head of the request",
                              " has more than ", limits_.max_head_bytes, " bytes"));
        }
        break;
      }
      if (refusal_.code == 0) Explain(ec, rest);
    }
    return skipped + taken;
  }

  State state() const {
    if (refusal_.code != 0) return State::kRefused;
    if (is_done()) return State::kDone;
    return head_done_ ? State::kBody : State::kHead;
  }

  bool begun() const { return got_some(); }
  const Refusal& refusal() const { return refusal_; }
  bool awaits_continue() const { return awaits_continue_ && request_.body.empty(); }
  const HttpRequest& request() const { return request_; }
  std::string TakeId() const {
    const std::string_view id = request_.Header("x-request-id");
    return IsRequestId(id) ? std::string(id) : DrawTraceId();
  }
  HttpRequest TakeRequest() {
    request_.keep_alive = keep_alive() && request_.http_1_1;
    request_.id = TakeId();
    return std::move(request_);
  }

 private:
  static constexpr size_t kMaxBlankBytes = 16;

  bool is_header_done() const { return head_done_; }

  void Refuse(int code, std::string words) {
    if (refusal_.code == 0) refusal_ = {code, std::move(words)};
  }
  void Refuse(int code, std::string words, error_code* ec) {
    Refuse(code, std::move(words));
    *ec = beast_http::error::bad_field;
  }

  void RefuseHeaders(error_code* ec) {
    Refuse(431,
           absl::StrCat("the request's headers have more than ", limits_.max_head_bytes, " bytes in all"),
           ec);
  }

  // Beast's own complaints, as a client should read them.
  void Explain(const error_code& ec, std::string_view rest) {
    using beast_http::error;
    if (ec == error::header_limit) {
      error_code ignored;
      if (!request_.method.empty()) return RefuseHeaders(&ignored);
      return Refuse(414, absl::StrCat("the request line has more than ", limits_.max_head_bytes, " bytes"));
    }
    if (ec == error::body_limit) {
      return Refuse(413, absl::StrCat("the body has more than the ", limits_.max_body_bytes,
                                      " bytes that are allowed"));
    }
    if (ec == error::bad_version && NamesOtherVersion(rest.substr(0, rest.find_first_of("\r\n")))) {
      return Refuse(505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    }
    if (ec == error::bad_transfer_encoding) {
      return Refuse(400, "the request has a transfer coding and a length, or the coding twice");
    }
    if (ec == error::bad_content_length || ec == error::multiple_content_length) {
      return Refuse(400, "the content-length is no number, stands twice, or stands beside a transfer coding");
    }
    Refuse(400, absl::StrCat("this is no HTTP/1.1 request: ", ec.message()));
  }

  void on_request_impl(beast_http::verb, boost::beast::string_view method, boost::beast::string_view target,
                       int version, error_code& ec) override {
    request_.method = std::string(ToStdView(method));
    request_.http_1_1 = version == 11;
    if (target.size() > limits_.max_target_bytes) {
      return Refuse(414,
                    absl::StrCat("the request's target has ", target.size(), " bytes, at most ",
                                 limits_.max_target_bytes, " are allowed"),
                    &ec);
    }
    // Of CONNECT it is an authority; the method is refused later, by its name.
    if (request_.method == "CONNECT") {
      request_.path = "/";
    } else if (!PathOfTarget(ToStdView(target), &request_.path)) {
      Refuse(400, absl::StrCat("the request's target ", Quoted(ToStdView(target)), " is no path"), &ec);
    }
  }

  void on_response_impl(int, boost::beast::string_view, int, error_code&) override {}

  void on_field_impl(beast_http::field, boost::beast::string_view name, boost::beast::string_view value,
                     error_code& ec) override {
    if (++n_fields_ > limits_.max_headers) {
      return Refuse(431, absl::StrCat("the request has more than ", limits_.max_headers, " headers"), &ec);
    }
    // Beast holds what it has not yet read against its limit, not the sum.
    n_head_bytes_ += name.size() + value.size() + 4;
    if (n_head_bytes_ > limits_.max_head_bytes) return RefuseHeaders(&ec);
    if (head_done_) return;  // a trailer: nothing here reads any
    request_.headers.emplace_back(absl::AsciiStrToLower({name.data(), name.size()}),
                                  std::string(ToStdView(value)));
  }

  void on_header_impl(error_code& ec) override {
    size_t n_hosts = 0, n_lengths = 0;
    for (const auto& [name, value] : request_.headers) {
      if (name == "host") ++n_hosts;
      if (name == "content-length")
        n_lengths += 1 + static_cast<size_t>(value.find(',') != std::string::npos);
      if (name == "transfer-encoding") {
        // Beast looks at the last coding only.
        if (!EqualsIgnoringCase(value, "chunked")) {
          return Refuse(501,
                        absl::StrCat("the transfer coding ", Quoted(value),
                                     " is not known here; send \"chunked\" or a content-length"),
                        &ec);
        }
        if (!request_.http_1_1) return Refuse(400, "HTTP/1.0 has no transfer codings", &ec);
      }
      if (name == "content-encoding" && !EqualsIgnoringCase(value, "identity")) {
        return Refuse(
            415,
            absl::StrCat("the content coding ", Quoted(value), " is not known here; send the body as it is"),
            &ec);
      }
      if (name == "expect" && request_.http_1_1) {
        if (!EqualsIgnoringCase(value, "100-continue")) {
          return Refuse(417, absl::StrCat("the expectation ", Quoted(value), " is not known here"), &ec);
        }
        awaits_continue_ = true;
      }
    }
    if (n_hosts > 1 || (n_hosts == 0 && request_.http_1_1)) {
      return Refuse(400, absl::StrCat("the request has ", n_hosts, " Host headers; HTTP/1.1 has one"), &ec);
    }
    if (n_lengths > 1) return Refuse(400, "the request has more than one content-length", &ec);
    head_done_ = true;
  }

  void on_body_init_impl(const boost::optional<uint64_t>&, error_code&) override {}

  size_t on_body_impl(boost::beast::string_view body, error_code&) override {
    request_.body.append(body.data(), body.size());
    return body.size();
  }

  void on_chunk_header_impl(uint64_t, boost::beast::string_view, error_code&) override {}

  size_t on_chunk_body_impl(uint64_t, boost::beast::string_view body, error_code& ec) override {
    return on_body_impl(body, ec);
  }

  void on_finish_impl(error_code&) override {}

  const ParserLimits limits_;
  HttpRequest request_;
  Refusal refusal_;
  size_t n_fields_ = 0;
  size_t n_head_bytes_ = 0;
  size_t n_blank_ = 0;
  bool head_done_ = false;
  bool awaits_continue_ = false;
};

RequestParser::RequestParser(const ParserLimits& limits) : impl_(std::make_unique<Impl>(limits)) {}
RequestParser::~RequestParser() = default;
size_t RequestParser::Put(std::string_view bytes) { return impl_->PutSome(bytes); }
RequestParser::State RequestParser::state() const { return impl_->state(); }
bool RequestParser::begun() const { return impl_->begun(); }
const RequestParser::Refusal& RequestParser::refusal() const { return impl_->refusal(); }
bool RequestParser::awaits_continue() const { return impl_->awaits_continue(); }
size_t RequestParser::body_bytes() const { return impl_->request().body.size(); }
bool RequestParser::is_head() const { return impl_->request().method == "HEAD"; }
std::string RequestParser::RequestId() const { return impl_->TakeId(); }
HttpRequest RequestParser::Take() { return impl_->TakeRequest(); }

}  // namespace coterie::gateway::http
