#ifndef COTERIE_COMMON_LOG_NAMED_H_
#define COTERIE_COMMON_LOG_NAMED_H_

#include <concepts>
#include <string>
#include <utility>

#include "spdlog/fmt/fmt.h"

namespace coterie {

// A value of a log line with its name:
//   spdlog::warn("worker {} lost: {}", Named("worker", address), Named("why", words));
// As text the line is as without it; as JSON it has the fields `worker` and `why` too.
template <typename T>
struct Named {
  Named(const char* name, const T& value) : name(name), value(value) {}

  const char* name;
  const T& value;  // of the expression that logs it
};
template <size_t n>
struct Named<char[n]> {
  Named(const char* name, const char (&value)[n]) : name(name), value(value) {}

  const char* name;
  const char* value;
};

// What the line that this thread is about to log names; kept only where lines are JSON.
bool KeepsLogFields();
void KeepLogField(const char* name, std::string value, bool is_number);

}  // namespace coterie

template <typename T>
struct fmt::formatter<coterie::Named<T>> : fmt::formatter<std::decay_t<decltype(coterie::Named<T>::value)>> {
  using Value = std::decay_t<decltype(coterie::Named<T>::value)>;

  template <typename Context>
  auto format(const coterie::Named<T>& named, Context& context) const {
    if (coterie::KeepsLogFields()) {
      constexpr bool kIsNumber = std::integral<Value> || std::floating_point<Value>;
      coterie::KeepLogField(named.name, fmt::format("{}", named.value), kIsNumber);
    }
    return fmt::formatter<Value>::format(named.value, context);
  }
};

#endif  // COTERIE_COMMON_LOG_NAMED_H_
