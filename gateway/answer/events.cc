#include "gateway/answer/events.h"

#include <utility>

namespace coterie::gateway {

DescribedToken Describe(int32_t id, const TextModel& text, const TextStream& stream) {
  return {stream.BytesOf(id), text.IsControl(id) ? text.TokenText(id) : std::string()};
}

TextLogprobs Describe(PositionLogprobs values, const TextModel& text, const TextStream& stream) {
  TextLogprobs described;
  described.chosen = Describe(values.chosen.token, text, stream);
  for (const TokenLogprob& top : values.top) described.top.push_back(Describe(top.token, text, stream));
  described.values = std::move(values);
  return described;
}

}  // namespace coterie::gateway
