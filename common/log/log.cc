#include "common/log/log.h"

#include <atomic>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "absl/time/time.h"
#include "common/log/named.h"
#include "common/utf8.h"
#include "spdlog/formatter.h"
#include "spdlog/sinks/stdout_color_sinks.h"
#include "spdlog/spdlog.h"

namespace coterie {
namespace {

struct Field {
  const char* name;
  std::string value;
  bool is_number;
};

// Written once, before other threads are there; the logger that it describes is the process's own, too.
std::atomic<bool> keeps_fields{false};
thread_local std::vector<Field> fields;
thread_local const LogTrace* current_trace = nullptr;

// Called by the thread that logs, after the message was put together.
class JsonLines final : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& line, spdlog::memory_buf_t& out) override {
    nlohmann::ordered_json json;
    json["time"] = absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::FromChrono(line.time), absl::UTCTimeZone());
    json["level"] = Text(spdlog::level::to_string_view(line.level));
    json["program"] = Text(line.logger_name);
    json["message"] = Text(line.payload);
    if (const LogTrace* trace = LogTrace::Current()) {
      json["trace_id"] = trace->trace_id();
      if (trace->span()) json["span_id"] = trace->span().ToHex();
    }
    for (Field& field : fields) {
      // Two values of one name stand in one line where it tells of two of a kind: the first has it.
      if (json.contains(field.name)) continue;
      nlohmann::ordered_json number;
      // What is no number in JSON (infinity) is told as text.
      if (field.is_number)
        number = nlohmann::ordered_json::parse(field.value, nullptr, /*allow_exceptions=*/false);
      json[field.name] =
          number.is_number() || number.is_boolean() ? number : nlohmann::ordered_json(field.value);
    }
    fields.clear();
    // Names and words of others may be no UTF-8.
    const std::string text = json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    out.append(text.data(), text.data() + text.size());
    out.push_back('\n');
  }
  std::unique_ptr<spdlog::formatter> clone() const override { return std::make_unique<JsonLines>(); }

 private:
  static std::string Text(spdlog::string_view_t text) { return {text.data(), text.size()}; }
};

}  // namespace

LogFormat LogFormatOf(const std::string& name) {
  return name == "json" ? LogFormat::kJson : LogFormat::kText;
}

void StartLog(const std::string& program, LogFormat format) {
  const auto logger = spdlog::stderr_color_mt(program);
  if (format == LogFormat::kJson) logger->set_formatter(std::make_unique<JsonLines>());
  keeps_fields.store(format == LogFormat::kJson);
  spdlog::set_default_logger(logger);
}

void LogFatal(const Status& why) {
  const std::string words = Printable(ToStd(why.message()));
  if (KeepsLogFields()) {
    spdlog::critical("{}", Named("why", words));
    spdlog::default_logger()->flush();
  } else {
    std::fprintf(stderr, "coterie-%s: %s\n", spdlog::default_logger()->name().c_str(), words.c_str());
  }
}

bool KeepsLogFields() { return keeps_fields.load(std::memory_order_relaxed); }

void KeepLogField(const char* name, std::string value, bool is_number) {
  fields.push_back({name, std::move(value), is_number});
}

LogTrace::LogTrace(const std::string& trace_id, SpanId span)
    : trace_id_(trace_id), span_(span), before_(current_trace) {
  current_trace = this;
}

LogTrace::~LogTrace() { current_trace = before_; }

const LogTrace* LogTrace::Current() { return current_trace; }

}  // namespace coterie
