#ifndef COTERIE_COMMON_CONSTRAINT_H_
#define COTERIE_COMMON_CONSTRAINT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace coterie {

inline constexpr size_t kMaxConstraintBytes = 64 << 10;  // of a schema, a regex, all choices together
inline constexpr size_t kMaxChoices = 1000;

// What the text of an answer must be (constrained decoding): the answer ends only where it holds.
// model/grammar says which schemas and regular expressions are served.
struct Constraint {
  enum class Kind : uint8_t { kNone, kJsonSchema, kRegex, kChoice };
  Kind kind = Kind::kNone;
  std::string text;                  // of kJsonSchema, kRegex
  std::vector<std::string> choices;  // of kChoice: the answer is one of these

  explicit operator bool() const { return kind != Kind::kNone; }
  bool operator==(const Constraint&) const = default;
};

}  // namespace coterie

#endif  // COTERIE_COMMON_CONSTRAINT_H_
