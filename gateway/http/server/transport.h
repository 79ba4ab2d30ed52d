#ifndef COTERIE_GATEWAY_HTTP_SERVER_TRANSPORT_H_
#define COTERIE_GATEWAY_HTTP_SERVER_TRANSPORT_H_

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

struct ssl_ctx_st;

namespace coterie::gateway::http {

// A client's socket, bare or under TLS: what a connection reads and writes through. One read and one write
// may be under way at a time. For one thread.
class Transport {
 public:
  using Error = boost::system::error_code;
  using Pieces = std::array<boost::asio::const_buffer, 2>;

  // `tls` null: bare.
  Transport(boost::asio::ip::tcp::socket socket, std::shared_ptr<ssl_ctx_st> tls);

  bool tls() const { return tls_.has_value(); }
  // Somebody speaks HTTP where TLS is spoken, and can be told so once StopTls was called.
  bool SpeaksPlainly();
  void StopTls() { tls_.reset(); }
  // Why a handshake failed, in words.
  std::string HandshakeErrors(const Error& error);

  void Prepare(int send_buffer_bytes);
  template <typename Handler>
  void AsyncHandshake(Handler handler) {
    tls_->async_handshake(boost::asio::ssl::stream_base::server, std::move(handler));
  }
  template <typename Handler>
  void AsyncReadSome(const boost::asio::mutable_buffer& into, Handler handler) {
    tls_ ? tls_->async_read_some(into, std::move(handler))
         : socket_.async_read_some(into, std::move(handler));
  }
  template <typename Handler>
  void AsyncWriteSome(const Pieces& from, Handler handler) {
    tls_ ? tls_->async_write_some(from, std::move(handler))
         : socket_.async_write_some(from, std::move(handler));
  }
  // What can be written at once, without waiting.
  size_t WriteNow(std::string_view bytes);
  // Says that nothing more comes from here. `keep` lives until that is said.
  void FinishSending(std::shared_ptr<void> keep);
  void Close();

 private:
  boost::asio::ip::tcp::socket socket_;
  std::optional<boost::asio::ssl::context> context_;  // shares OpenSSL's
  std::optional<boost::asio::ssl::stream<boost::asio::ip::tcp::socket&>> tls_;
};

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_SERVER_TRANSPORT_H_
