#include "gateway/http/server/transport.h"

#include <openssl/ssl.h>
#include <sys/socket.h>

#include "net/tls_context.h"

namespace coterie::gateway::http {

Transport::Transport(boost::asio::ip::tcp::socket socket, std::shared_ptr<ssl_ctx_st> tls)
    : socket_(std::move(socket)) {
  if (tls == nullptr) return;
  SSL_CTX_up_ref(tls.get());
  context_.emplace(tls.get());
  tls_.emplace(socket_, *context_);
}

bool Transport::SpeaksPlainly() {
  char first = 0;
  const ssize_t n = recv(socket_.native_handle(), &first, 1, MSG_PEEK | MSG_DONTWAIT);
  return n == 1 && first >= 'A' && first <= 'Z';  // a method; a TLS hello begins with 22
}

std::string Transport::HandshakeErrors(const Error& error) {
  const std::string words = net::TakeHandshakeErrors(tls_->native_handle());
  return words.empty() ? error.message() : words;
}

void Transport::Prepare(int send_buffer_bytes) {
  Error ec;
  socket_.non_blocking(true, ec);
  socket_.set_option(boost::asio::socket_base::send_buffer_size(send_buffer_bytes), ec);
}

size_t Transport::WriteNow(std::string_view bytes) {
  Error ec;
  const boost::asio::const_buffer buffer(bytes.data(), bytes.size());
  return tls_ ? tls_->write_some(buffer, ec) : socket_.write_some(buffer, ec);
}

void Transport::FinishSending(std::shared_ptr<void> keep) {
  Error ec;
  if (!tls_) {
    socket_.shutdown(boost::asio::ip::tcp::socket::shutdown_send, ec);
    return;
  }
  // TLS's own word that nothing was cut off; its answer is not waited for.
  tls_->async_shutdown([keep = std::move(keep)](const Error&) {});
}

void Transport::Close() {
  Error ec;
  socket_.close(ec);
}

}  // namespace coterie::gateway::http
