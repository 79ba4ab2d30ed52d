#include "gateway/http/server/connection.h"

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/quoted.h"
#include "gateway/http/server/connection_exchange.h"

namespace coterie::gateway::http {
namespace {

constexpr size_t kIdleBufferBytes = 2 << 10;
constexpr size_t kBodyBufferBytes = 32 << 10;
// Of requests that a client sends before it has its answer. One that sends more gets this answer and no
// other: what it sends is passed over, since only who goes on reading notices that a client has left.
constexpr size_t kMaxAheadBytes = 64 << 10;
// A client that is refused may be in the middle of sending: closing at once would reset the connection, and
// the reset might overtake our words.
constexpr absl::Duration kLingerTime = absl::Seconds(2);
constexpr size_t kMaxLingerBytes = 4 << 20;

constexpr char kComment[] = ": keep-alive\n\n";

}  // namespace

Connection::Connection(std::shared_ptr<Loop> loop, boost::asio::ip::tcp::socket socket,
                       const net::PeerAddress& peer)
    : loop_(std::move(loop)),
      shared_(loop_->shared()),
      peer_(peer),
      id_(shared_.NextConnectionId()),
      transport_(std::move(socket), shared_.tls == nullptr ? nullptr : shared_.tls->ServerContext()),
      timer_(loop_->context()),
      phase_since_(MonotonicNow()) {}

void Connection::Start() {
  loop_->Add(shared_from_this());
  transport_.Prepare(shared_.options.send_buffer_bytes);
  parser_.emplace(shared_.options.parser);
  if (!transport_.tls()) return BeginReading();
  if (transport_.SpeaksPlainly()) {
    transport_.StopTls();
    return Refuse(400, "this port speaks TLS; ask it by https://");
  }
  phase_ = Phase::kHandshaking;
  transport_.AsyncHandshake(
      [self = shared_from_this()](boost::system::error_code ec) { self->OnHandshake(ec); });
  Arm();
}

void Connection::OnHandshake(const boost::system::error_code& ec) {
  if (phase_ == Phase::kClosed) return;
  if (ec) {
    shared_.NoteFailedHandshake(peer_, transport_.HandshakeErrors(ec));
    return Close();
  }
  phase_ = Phase::kReading;
  phase_since_ = MonotonicNow();
  BeginReading();
}

void Connection::BeginReading() {
  Read();
  Arm();
}

void Connection::Close() {
  if (phase_ == Phase::kClosed) return;
  const auto self = shared_from_this();
  if (idle()) shared_.idle.Remove(id_);
  phase_ = Phase::kClosed;
  timer_.cancel();
  transport_.Close();
  shared_.AddBodyBytes(-std::exchange(charged_bytes_, 0));
  if (streaming_) shared_.metrics.streams.Decrement();
  if (const auto exchange = std::move(exchange_); exchange != nullptr) {
    shared_.metrics.CountRequest(route_, 499);
    shared_.CountUnderWay(-1);
    exchange->Over(/*gone=*/true);
  }
  output_.reset();
  next_.reset();
  loop_->Remove(self);
}

// --- Reading ---

void Connection::Read() {
  if (reading_ || phase_ == Phase::kClosed) return;
  reading_ = true;
  // Nowhere else: the kernel writes into it until the read is over, and one almost always is under way.
  const size_t wanted = in_body_ ? kBodyBufferBytes : kIdleBufferBytes;
  if (read_buffer_.size() != wanted) read_buffer_ = std::vector<char>(wanted);
  transport_.AsyncReadSome(boost::asio::buffer(read_buffer_),
                           [self = shared_from_this()](boost::system::error_code ec, size_t n_bytes) {
                             self->reading_ = false;
                             if (self->phase_ == Phase::kClosed) return;
                             if (ec) return self->Close();
                             self->OnRead(n_bytes);
                           });
}

void Connection::OnRead(size_t n_bytes) {
  if (phase_ == Phase::kLingering) {
    n_lingered_ += n_bytes;
    return n_lingered_ > kMaxLingerBytes ? Close() : Read();
  }
  if (phase_ == Phase::kAnswering && inbox_.size() + n_bytes > kMaxAheadBytes) {
    keep_alive_ = false;
    inbox_.clear();
  } else if (keep_alive_ || phase_ == Phase::kReading) {
    inbox_.append(read_buffer_.data(), n_bytes);
  }
  Advance();
  Read();
  Arm();
}

void Connection::Advance() {
  while (phase_ == Phase::kReading && !inbox_.empty()) {
    const bool was_idle = idle();
    const size_t n_taken = parser_->Put(inbox_);
    inbox_.erase(0, n_taken);
    if (was_idle && !idle()) {
      shared_.idle.Remove(id_);
      phase_since_ = MonotonicNow();
    }
    if (!ChargeBody()) {
      return Refuse(503, absl::StrCat("the bodies of all requests together have more than the ",
                                      shared_.options.max_bodies_bytes,
                                      " bytes that this gateway holds at once; try again"));
    }
    switch (parser_->state()) {
      case RequestParser::State::kRefused:
        return Refuse(parser_->refusal().code, parser_->refusal().words);
      case RequestParser::State::kDone:
        BeginExchange();
        break;
      case RequestParser::State::kBody:
        if (!std::exchange(in_body_, true)) {
          phase_since_ = MonotonicNow();
          if (parser_->awaits_continue()) SendContinue();
        }
        if (n_taken == 0) return;
        break;
      case RequestParser::State::kHead:
        if (n_taken == 0) return;
        break;
    }
  }
}

bool Connection::ChargeBody() {
  const auto grown = static_cast<int64_t>(parser_->body_bytes()) - charged_bytes_;
  charged_bytes_ += grown;
  return shared_.AddBodyBytes(grown) <= shared_.options.max_bodies_bytes || grown == 0;
}

void Connection::SendContinue() {
  // Nothing else is on its way, so a few bytes fit; where they do not, nobody is there.
  constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  if (transport_.WriteNow(kContinue) != kContinue.size()) Close();
}

void Connection::BeginExchange() {
  HttpRequest request = parser_->Take();
  request.peer = peer_;
  is_head_ = request.method == "HEAD";
  http_1_1_ = request.http_1_1;
  keep_alive_ = request.keep_alive;
  parser_.reset();
  route_ = "other";
  code_ = 0;
  responded_ = streaming_ = sending_ = in_body_ = first_ = false;
  phase_ = Phase::kAnswering;
  shared_.CountUnderWay(1);
  exchange_ = std::make_shared<ConnectionExchange>(shared_from_this(), std::move(request));
  const std::string_view host = exchange_->request().Header("host");
  if (shared_.on_loopback && !shared_.hosts.Allows(host)) {
    return exchange_->Respond(ErrorResponse(
        403, absl::StrCat("this listener is on loopback and goes by no such name as ", Quoted(host),
                          "; a proxy in front of it sets another Host, or --http-hosts names this one")));
  }
  shared_.handler(exchange_);
}

void Connection::Refuse(int code, const std::string& words) {
  HttpResponse response = ErrorResponse(code, words);
  if (code == 503) response.headers.emplace_back("Retry-After", "1");
  shared_.metrics.CountRequest("refused", code);
  ResponseHead head;
  head.length = static_cast<int64_t>(response.body->size());
  head.close = true;
  const std::string id = parser_->RequestId();
  head.request_id = id;
  Output output;
  output.head = FormatHead(response, head);
  if (!parser_->is_head()) output.body = response.body;
  output.done = [this] { Linger(); };
  phase_ = Phase::kAnswering;  // of nobody's request
  inbox_.clear();
  Write(std::move(output));
}

void Connection::Linger() {
  transport_.FinishSending(shared_from_this());
  shared_.AddBodyBytes(-std::exchange(charged_bytes_, 0));
  parser_.reset();
  inbox_.clear();
  phase_ = Phase::kLingering;
  phase_since_ = MonotonicNow();
  Read();
  Arm();
}

void Connection::AwaitRequest() {
  phase_ = Phase::kReading;
  phase_since_ = MonotonicNow();
  parser_.emplace(shared_.options.parser);
  if (inbox_.empty()) {
    if (shared_.draining) return Close();
    shared_.idle.Add(id_, peer_);
  }
}

// --- Answering ---

ResponseHead Connection::HeadFor(const HttpResponse& response) {
  if (shared_.draining) keep_alive_ = false;
  ResponseHead head;
  head.length = response.body == nullptr ? 0 : static_cast<int64_t>(response.body->size());
  head.close = !keep_alive_;
  head.request_id = exchange_->request().id;
  return head;
}

void Connection::Respond(const ConnectionExchange* from, HttpResponse response) {
  if (from != exchange_.get() || responded_ || streaming_) return;
  responded_ = true;
  code_ = response.code;
  Output output;
  output.head = FormatHead(response, HeadFor(response));
  if (!is_head_) output.body = std::move(response.body);
  output.done = [this] { FinishExchange(); };
  Write(std::move(output));
}

void Connection::BeginStream(const ConnectionExchange* from, HttpResponse response) {
  if (from != exchange_.get() || responded_ || streaming_) return;
  streaming_ = true;
  code_ = response.code;
  if (!http_1_1_) keep_alive_ = false;  // the body's end is the connection's
  ResponseHead head = HeadFor(response);
  head.chunked = http_1_1_;
  head.length = -1;
  held_head_ = FormatHead(response, head);
  shared_.metrics.streams.Increment();
  progress_ = MonotonicNow();
}

std::string Connection::Frame(std::string bytes, bool last) const {
  if (!http_1_1_) return bytes;
  std::string framed;
  if (!bytes.empty()) framed = absl::StrCat(absl::Hex(bytes.size()), "\r\n", bytes, "\r\n");
  if (last) framed += "0\r\n\r\n";
  return framed;
}

void Connection::Send(const ConnectionExchange* from, std::string bytes, std::function<void()> written) {
  if (from != exchange_.get() || !streaming_ || sending_) return;
  sending_ = true;
  Output output;
  output.head = std::exchange(held_head_, {}) + Frame(std::move(bytes), /*last=*/false);
  output.done = [this, written = std::move(written)] {
    sending_ = false;
    written();
  };
  Write(std::move(output));
}

void Connection::EndStream(const ConnectionExchange* from, std::string bytes) {
  if (from != exchange_.get() || !streaming_ || sending_) return;
  sending_ = true;
  Output output;
  output.head = std::exchange(held_head_, {}) + Frame(std::move(bytes), /*last=*/true);
  output.done = [this] { FinishExchange(); };
  Write(std::move(output));
}

void Connection::FinishExchange() {
  shared_.metrics.CountRequest(route_, code_);
  if (std::exchange(streaming_, false)) shared_.metrics.streams.Decrement();
  shared_.AddBodyBytes(-std::exchange(charged_bytes_, 0));
  sending_ = false;
  const auto exchange = std::move(exchange_);
  exchange->Over(/*gone=*/false);
  shared_.CountUnderWay(-1);
  if (!keep_alive_) return Linger();
  AwaitRequest();
  if (phase_ == Phase::kClosed) return;
  Advance();
  Read();
  Arm();
}

// --- Writing ---

void Connection::Write(Output output) {
  if (phase_ == Phase::kClosed) return;
  if (output_) {  // a comment: an exchange has one write outstanding
    next_ = std::move(output);
    return;
  }
  output_ = std::move(output);
  n_output_written_ = 0;
  progress_ = MonotonicNow();
  WriteSome();
  Arm();
}

void Connection::WriteSome() {
  const std::string& head = output_->head;
  const std::string_view body = output_->body == nullptr ? std::string_view() : *output_->body;
  const size_t of_head = std::min(n_output_written_, head.size());
  const size_t of_body = n_output_written_ - of_head;
  const std::array<boost::asio::const_buffer, 2> rest = {
      boost::asio::buffer(head.data() + of_head, head.size() - of_head),
      boost::asio::buffer(body.data() + of_body, body.size() - of_body)};
  transport_.AsyncWriteSome(rest, [self = shared_from_this()](boost::system::error_code ec, size_t n_bytes) {
    if (self->phase_ == Phase::kClosed) return;
    if (ec) return self->Close();
    self->n_output_written_ += n_bytes;
    self->progress_ = MonotonicNow();
    const Output& output = *self->output_;
    const size_t n_all = output.head.size() + (output.body == nullptr ? 0 : output.body->size());
    if (self->n_output_written_ < n_all) return self->WriteSome();
    self->OnWritten();
  });
}

void Connection::OnWritten() {
  const std::function<void()> done = std::move(output_->done);
  output_.reset();
  if (next_) Write(*std::exchange(next_, std::nullopt));
  if (done) done();
  Arm();
}

void Connection::WriteComment() {
  shared_.metrics.comments.Increment();
  Output output;
  output.head = Frame(kComment, /*last=*/false);
  Write(std::move(output));
}

// --- Time ---

MonotonicTime Connection::Due() const {
  const HttpServerOptions& options = shared_.options;
  switch (phase_) {
    case Phase::kHandshaking:
      return phase_since_ + options.head_timeout;
    case Phase::kReading:
      if (in_body_) return phase_since_ + options.body_timeout;
      // The first words of a connection are there when it comes to us.
      if (idle() && !first_) return phase_since_ + options.idle_timeout;
      return phase_since_ + options.head_timeout;
    case Phase::kAnswering:
      if (output_) return progress_ + options.stall_timeout;
      if (streaming_ && held_head_.empty()) return progress_ + options.comment_interval;
      return MonotonicTime::InfiniteFuture();
    case Phase::kLingering:
      return phase_since_ + kLingerTime;
    case Phase::kClosed:
      break;
  }
  return MonotonicTime::InfiniteFuture();
}

// The timer may go off early, never late: most of what sets a new time sets a later one.
void Connection::Arm() {
  const MonotonicTime due = Due();
  if (due >= timer_due_) return;
  timer_due_ = due;
  timer_.expires_at(ToSteadyClock(due));
  timer_.async_wait([self = shared_from_this()](boost::system::error_code ec) {
    if (!ec && self->phase_ != Phase::kClosed) self->OnTimer();
  });
}

void Connection::OnTimer() {
  timer_due_ = MonotonicTime::InfiniteFuture();
  if (MonotonicNow() < Due()) return Arm();
  switch (phase_) {
    case Phase::kReading:
      if (idle()) return Close();
      return Refuse(408, in_body_ ? absl::StrCat("the body was not there after ",
                                                 absl::FormatDuration(shared_.options.body_timeout))
                                  : absl::StrCat("the head of the request was not there after ",
                                                 absl::FormatDuration(shared_.options.head_timeout)));
    case Phase::kAnswering:
      if (output_) return Close();  // the client takes nothing
      WriteComment();
      return Arm();
    default:
      return Close();
  }
}

}  // namespace coterie::gateway::http
