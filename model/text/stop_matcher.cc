#include "model/text/stop_matcher.h"

#include <utility>

#include "model/text/unicode.h"

namespace coterie {

StatusOr<std::shared_ptr<const StopStrings>> StopStrings::Create(const std::vector<std::string>& strings) {
  if (strings.size() > kMaxStrings) {
    return absl::InvalidArgumentError(
        absl::StrCat("there are ", strings.size(), " stop strings, the limit is ", kMaxStrings));
  }
  auto made = std::make_shared<StopStrings>();
  std::vector<Node>& nodes = made->nodes_;
  // In breadth-first order each node's fallback is ready before its children ask for it.
  struct Child {
    uint32_t parent, node;
    unsigned char byte;
  };
  std::vector<std::vector<Child>> by_depth;
  for (size_t index = 0; index < strings.size(); ++index) {
    const std::string& s = strings[index];
    if (s.empty() || s.size() > kMaxBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("stop string ", index, " has ", s.size(), " bytes, want 1 to ", kMaxBytes));
    }
    if (!text::IsWellFormed(s)) {  // else a cut before it could cut a character
      return absl::InvalidArgumentError(absl::StrCat("stop string ", index, " is not UTF-8"));
    }
    uint32_t node = 0;
    for (size_t i = 0; i < s.size(); ++i) {
      const auto byte = static_cast<unsigned char>(s[i]);
      const auto [edge, is_new] =
          made->edges_.try_emplace(node << 8 | byte, static_cast<uint32_t>(nodes.size()));
      const uint32_t parent = std::exchange(node, edge->second);
      if (!is_new) continue;
      nodes.push_back({.depth = static_cast<uint32_t>(i + 1)});
      if (by_depth.size() <= i) by_depth.resize(i + 1);
      by_depth[i].push_back({parent, node, byte});
    }
    if (nodes[node].stop_index < 0) {
      nodes[node].stop_bytes = static_cast<uint32_t>(s.size());
      nodes[node].stop_index = static_cast<int32_t>(index);
    }
  }
  for (const std::vector<Child>& level : by_depth) {
    for (const Child& child : level) {
      Node& node = nodes[child.node];
      node.fallback = child.parent == 0 ? 0 : made->Step(nodes[child.parent].fallback, child.byte);
      if (node.stop_index < 0) {
        node.stop_bytes = nodes[node.fallback].stop_bytes;
        node.stop_index = nodes[node.fallback].stop_index;
      }
    }
  }
  return made;
}

uint32_t StopStrings::Step(uint32_t node, unsigned char byte) const {
  for (;;) {
    const auto edge = edges_.find(node << 8 | byte);
    if (edge != edges_.end()) return edge->second;
    if (node == 0) return 0;
    node = nodes_[node].fallback;
  }
}

std::string StopMatcher::Append(std::string_view text) {
  if (stopped()) return "";
  for (size_t i = 0; i < text.size(); ++i) {
    node_ = strings_->Step(node_, static_cast<unsigned char>(text[i]));
    const StopStrings::Node& node = strings_->nodes_[node_];
    if (node.stop_index < 0) continue;
    stop_index_ = node.stop_index;
    std::string out = std::exchange(held_, {});
    out += text.substr(0, i + 1);
    out.erase(out.size() - node.stop_bytes);
    return out;
  }
  held_ += text;
  const size_t n_kept = strings_->nodes_[node_].depth;
  std::string out = held_.substr(0, held_.size() - n_kept);
  held_.erase(0, out.size());
  return out;
}

std::string StopMatcher::Flush() { return std::exchange(held_, {}); }

}  // namespace coterie
