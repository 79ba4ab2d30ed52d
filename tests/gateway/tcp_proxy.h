#ifndef COTERIE_TESTS_GATEWAY_TCP_PROXY_H_
#define COTERIE_TESTS_GATEWAY_TCP_PROXY_H_

#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/mutex.h"

namespace coterie::gateway::testing {

// A stretch of network between a gateway and a worker that a test can break. One thread polls all
// connections.
class TcpProxy {
 public:
  explicit TcpProxy(int target_port);
  ~TcpProxy();

  int port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // Resets every connection of this moment (RST both ways); new ones are welcome.
  void Cut();
  // While set, nothing passes and no connection ends: packets vanish.
  void SetBlackHole(bool on);
  // Holds every byte back for so long.
  void SetDelay(absl::Duration delay);
  // While set, new connections are reset at once.
  void SetRefuse(bool on);
  int connections() const;  // accepted so far

 private:
  struct Chunk {
    MonotonicTime due;
    std::string bytes;
  };
  struct Direction {
    int from = -1;
    int to = -1;
    std::vector<Chunk> held;
    bool ended = false;  // `from` sent all it has
    bool shut = false;   // and `to` was told
  };
  struct Connection {
    int client = -1;
    int server = -1;
    Direction up, down;
  };

  void Run();
  void Accept() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Pump(Direction* direction, bool readable) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void Reset(int fd);

  const int target_port_;
  int listener_ = -1;
  int port_ = 0;
  mutable Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool cut_ ABSL_GUARDED_BY(mutex_) = false;
  bool black_hole_ ABSL_GUARDED_BY(mutex_) = false;
  bool refuse_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Duration delay_ ABSL_GUARDED_BY(mutex_);
  int n_connections_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Connection> connections_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace coterie::gateway::testing

#endif  // COTERIE_TESTS_GATEWAY_TCP_PROXY_H_
