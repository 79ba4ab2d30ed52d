#ifndef COTERIE_COMMON_LOG_LOG_H_
#define COTERIE_COMMON_LOG_LOG_H_

#include <string>

#include "common/status.h"
#include "common/trace/trace_context.h"

namespace coterie {

enum class LogFormat { kText, kJson };

// "text" or "json", as --log-format has it.
LogFormat LogFormatOf(const std::string& name);

// From here on what the process logs goes to standard error under the name `program`: as text for people, or
// a JSON object a line, with `time`, `level`, `program`, `message`, what LogTrace says, and every value that
// the line names (common/log/named.h). Before there are other threads.
void StartLog(const std::string& program, LogFormat format);

// The last word of a process that cannot go on: "coterie-<program>: <why>", or a line as the others are.
void LogFatal(const Status& why);

// While it stands, lines of this thread are of one request: as JSON they have its `trace_id` and, where it is
// traced, its `span_id`.
class LogTrace {
 public:
  // Borrows the id, which whoever looks for the request knows it by.
  explicit LogTrace(const std::string& trace_id, SpanId span = {});
  ~LogTrace();
  LogTrace(const LogTrace&) = delete;
  LogTrace& operator=(const LogTrace&) = delete;

  // This thread's; null outside of every request.
  static const LogTrace* Current();
  const std::string& trace_id() const { return trace_id_; }
  SpanId span() const { return span_; }

 private:
  const std::string& trace_id_;
  const SpanId span_;
  const LogTrace* const before_;
};

}  // namespace coterie

#endif  // COTERIE_COMMON_LOG_LOG_H_
