#ifndef COTERIE_GATEWAY_HTTP_SERVER_CONNECTION_H_
#define COTERIE_GATEWAY_HTTP_SERVER_CONNECTION_H_

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "gateway/http/server/http_response.h"
#include "gateway/http/server/loop.h"
#include "gateway/http/server/request_parser.h"
#include "gateway/http/server/transport.h"
#include "net/peer_address.h"

namespace coterie::gateway::http {

class ConnectionExchange;

// One client's connection: reads a request, has it answered, reads the next. It goes on reading while it
// answers, so that a client that leaves is noticed at once whatever its answer is waiting for; what it sends
// ahead is bounded. A client that closes only its sending side has left, too. One write is outstanding at
// most. Everything happens on the loop's thread.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Loop> loop, boost::asio::ip::tcp::socket socket, const net::PeerAddress& peer);
  void Start();
  void Close();
  // Between two requests, or before the first.
  bool idle() const { return phase_ == Phase::kReading && (!parser_ || !parser_->begun()); }

  // For the exchange; ignored unless it is the one under way.
  void Respond(const ConnectionExchange* from, HttpResponse response);
  void BeginStream(const ConnectionExchange* from, HttpResponse response);
  void Send(const ConnectionExchange* from, std::string bytes, std::function<void()> written);
  void EndStream(const ConnectionExchange* from, std::string bytes);
  bool sending() const { return sending_; }
  void SetRoute(const ConnectionExchange* from, const char* route) {
    if (from == exchange_.get()) route_ = route;
  }
  const std::shared_ptr<Loop>& loop() const { return loop_; }

 private:
  enum class Phase { kHandshaking, kReading, kAnswering, kLingering, kClosed };
  struct Output {
    std::string head;                         // or all of it
    std::shared_ptr<const std::string> body;  // behind it; may be null
    std::function<void()> done;
  };

  void BeginReading();
  void OnHandshake(const boost::system::error_code& ec);
  void Read();
  void OnRead(size_t n_bytes);
  void Advance();
  bool ChargeBody();
  void SendContinue();
  void BeginExchange();
  void Refuse(int code, const std::string& words);
  void FinishExchange();
  void AwaitRequest();
  void Linger();
  std::string Frame(std::string bytes, bool last) const;

  void Write(Output output);
  void WriteSome();
  void OnWritten();

  // When something has to happen if nothing else does, and what.
  MonotonicTime Due() const;
  void Arm();
  void OnTimer();
  void WriteComment();
  ResponseHead HeadFor(const HttpResponse& response);

  const std::shared_ptr<Loop> loop_;
  ServerShared& shared_;
  const net::PeerAddress peer_;
  const int64_t id_;
  Transport transport_;
  boost::asio::steady_timer timer_;
  MonotonicTime timer_due_ = MonotonicTime::InfiniteFuture();

  Phase phase_ = Phase::kReading;
  MonotonicTime phase_since_;
  bool in_body_ = false;  // of kReading: the head is there
  bool first_ = true;     // no request was answered yet
  std::optional<RequestParser> parser_;
  std::string inbox_;  // what came and was not parsed yet
  std::vector<char> read_buffer_;
  bool reading_ = false;
  size_t n_lingered_ = 0;
  int64_t charged_bytes_ = 0;  // of shared_.body_bytes

  std::shared_ptr<ConnectionExchange> exchange_;  // kAnswering
  const char* route_ = "other";
  int code_ = 0;
  bool is_head_ = false;
  bool http_1_1_ = true;
  bool keep_alive_ = true;
  bool responded_ = false;
  bool streaming_ = false;
  bool sending_ = false;          // the exchange's
  std::string held_head_;         // of a stream, until its first bytes
  std::optional<Output> output_;  // being written
  std::optional<Output> next_;    // behind a comment
  size_t n_output_written_ = 0;
  MonotonicTime progress_;  // of the last byte that the kernel took
};

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_SERVER_CONNECTION_H_
