#include "gateway/answer/events.h"

#include <utility>

namespace coterie::gateway {

TextLogprobs Describe(PositionLogprobs values, const TextModel& text, const TextStream& stream) {
  const auto describe = [&](int32_t id) {
    return DescribedToken{stream.BytesOf(id), text.IsControl(id) ? text.TokenText(id) : std::string()};
  };
  TextLogprobs described;
  described.chosen = describe(values.chosen.token);
  for (const TokenLogprob& top : values.top) described.top.push_back(describe(top.token));
  described.values = std::move(values);
  return described;
}

}  // namespace coterie::gateway
