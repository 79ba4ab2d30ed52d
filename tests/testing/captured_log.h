#ifndef COTERIE_TESTS_TESTING_CAPTURED_LOG_H_
#define COTERIE_TESTS_TESTING_CAPTURED_LOG_H_

#include <memory>
#include <sstream>
#include <string>
#include <string_view>

#include "spdlog/sinks/ostream_sink.h"
#include "spdlog/spdlog.h"

namespace coterie {

// What this process logs while it stands. Before whatever logs: the logger is changed for all threads at
// once.
class CapturedLog {
 public:
  CapturedLog() : before_(spdlog::default_logger()) {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "captured", std::make_shared<spdlog::sinks::ostream_sink_mt>(words_)));
  }
  ~CapturedLog() { spdlog::set_default_logger(before_); }
  CapturedLog(const CapturedLog&) = delete;
  CapturedLog& operator=(const CapturedLog&) = delete;

  // Lines with `words` in them. Nobody may be logging any more.
  size_t Count(std::string_view words) const {
    size_t n = 0;
    std::istringstream lines(words_.str());
    for (std::string line; std::getline(lines, line);) n += line.find(words) != std::string::npos ? 1 : 0;
    return n;
  }

 private:
  const std::shared_ptr<spdlog::logger> before_;
  std::ostringstream words_;
};

}  // namespace coterie

#endif  // COTERIE_TESTS_TESTING_CAPTURED_LOG_H_
