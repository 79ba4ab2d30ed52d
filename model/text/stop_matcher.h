#ifndef COTERIE_MODEL_TEXT_STOP_MATCHER_H_
#define COTERIE_MODEL_TEXT_STOP_MATCHER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/status.h"

namespace coterie {

// The stop strings of a request, made ready (an Aho-Corasick automaton). Immutable; thread-safe.
class StopStrings {
 public:
  static constexpr size_t kMaxStrings = 64;
  static constexpr size_t kMaxBytes = 1024;  // each

  // InvalidArgument naming a string that is empty or too long, or that there are too many.
  static StatusOr<std::shared_ptr<const StopStrings>> Create(const std::vector<std::string>& strings);

 private:
  friend class StopMatcher;
  struct Node {
    uint32_t fallback = 0;    // the longest proper suffix that is a node too
    uint32_t depth = 0;       // bytes from the root
    uint32_t stop_bytes = 0;  // length of the longest stop string that ends here; 0: none
    int32_t stop_index = -1;  // which one
  };
  uint32_t Step(uint32_t node, unsigned char byte) const;

  std::vector<Node> nodes_ = std::vector<Node>(1);  // [0]: the root
  absl::flat_hash_map<uint32_t, uint32_t> edges_;   // node << 8 | byte -> node
};

// Looks for stop strings in text that comes in pieces of any size, and lets through what can no longer be
// part of one: the text before the stop string that ends first (of those that end together: the longest) is
// delivered, no byte of that string or after it. What is delivered does not depend on how the text is cut.
// One per answer; not thread-safe.
class StopMatcher {
 public:
  explicit StopMatcher(std::shared_ptr<const StopStrings> strings) : strings_(std::move(strings)) {}

  // The text that may be delivered now. Holds back exactly the longest suffix that could begin a stop string.
  std::string Append(std::string_view text);
  // What was held back, when the text ends without a stop string. Empty after a stop.
  std::string Flush();

  bool stopped() const { return stop_index_ >= 0; }
  // Which of the strings given to Create was found; -1: none.
  int stop_index() const { return stop_index_; }

 private:
  std::shared_ptr<const StopStrings> strings_;
  std::string held_;  // the text on the path from the root to node_
  uint32_t node_ = 0;
  int stop_index_ = -1;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_TEXT_STOP_MATCHER_H_
