#ifndef COTERIE_TESTS_NET_TRACE_OTLP_RECEIVER_H_
#define COTERIE_TESTS_NET_TRACE_OTLP_RECEIVER_H_

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/file_descriptor.h"
#include "common/mutex.h"
#include "otlp/trace.pb.h"

struct ssl_ctx_st;

namespace coterie::net::testing {

// Where traces go in tests: takes one POST after the other and keeps what it says.
class OtlpReceiver {
 public:
  struct Options {
    int port = 0;
    bool hangs = false;               // reads and never answers
    std::shared_ptr<ssl_ctx_st> tls;  // null: in the clear
    std::vector<int> statuses;        // of the first answers; then 200
    int64_t rejects = 0;              // spans, as each of its answers says
  };
  explicit OtlpReceiver(Options options);
  OtlpReceiver() : OtlpReceiver(Options()) {}
  ~OtlpReceiver();  // it vanishes

  int port() const { return port_; }
  std::string url() const;

  struct Received {
    std::string service;
    otlp::Span span;

    // The attribute in words; empty without it.
    std::string Attribute(std::string_view key) const;
    // The event of that name; null without one.
    const otlp::Span::Event* Event(std::string_view name) const;
  };
  // Of the POSTs that were answered with 200.
  std::vector<Received> spans() const;
  std::vector<Received> Named(std::string_view name) const;
  // Until it has `n` of that name, or `timeout` has passed: all it has.
  std::vector<Received> WaitFor(std::string_view name, size_t n = 1,
                                absl::Duration timeout = absl::Seconds(20)) const;
  size_t n_posts() const;
  std::string last_head() const;  // of a POST

 private:
  class Connection;
  void Serve();
  void Answer(int fd);

  const Options options_;
  int port_ = 0;
  FileDescriptor listening_;
  FileDescriptor stop_;

  mutable Mutex mutex_;
  mutable CondVar changed_;
  std::vector<Received> spans_ ABSL_GUARDED_BY(mutex_);
  size_t n_posts_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string last_head_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

std::string TextOf(const otlp::AnyValue& value);

}  // namespace coterie::net::testing

#endif  // COTERIE_TESTS_NET_TRACE_OTLP_RECEIVER_H_
