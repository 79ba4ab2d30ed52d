#ifndef COTERIE_TESTS_NET_RAW_CLIENT_H_
#define COTERIE_TESTS_NET_RAW_CLIENT_H_

#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "net/listen_socket.h"

namespace coterie::net::testing {

// A TCP connection to this machine, from one of its loopback addresses.
class RawClient {
 public:
  explicit RawClient(int port, const char* from = "127.0.0.1");

  bool connected() const { return socket_.get() >= 0; }
  int fd() const { return socket_.get(); }
  bool Send(std::string_view bytes);
  // Everything until the server closes, or until `timeout`.
  std::string ReadAll(absl::Duration timeout = absl::Seconds(20));
  // Whether the server has closed it.
  bool ClosedWithin(absl::Duration timeout);
  void Close() { socket_ = FileDescriptor(); }

 private:
  FileDescriptor socket_;
};

}  // namespace coterie::net::testing

#endif  // COTERIE_TESTS_NET_RAW_CLIENT_H_
