#include "model/text/end_tokens.h"

#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "model/text/turn_end.h"

namespace coterie {
namespace {

// Nobody writes these for anything but an end. (Not "<|end|>": some formats close a part of a turn with it;
// where it closes the turn the template shows it.)
constexpr std::string_view kEndNames[] = {"<|im_end|>",
                                          "<|endoftext|>",
                                          "<|eot_id|>",
                                          "<|eom_id|>",
                                          "<|end_of_text|>",
                                          "<|endofturn|>",
                                          "<|end_of_turn|>",
                                          "<|END_OF_TURN_TOKEN|>",
                                          "<end_of_turn>",
                                          "<end_of_utterance>",
                                          "<\uFF5Cend\u2581of\u2581sentence\uFF5C>"};  // DeepSeek's
// These could be markup where they are no control tokens ("</s>" is struck-out text in HTML).
constexpr std::string_view kControlEndNames[] = {"</s>",  "<eos>", "<|eos|>",          "[EOS]",
                                                 "[EOT]", "<EOT>", "\xE2\x96\x81<EOT>"};

class EndTokens {
 public:
  EndTokens(const Tokenizer& tokenizer, int vocab_size) : tokenizer_(tokenizer), vocab_size_(vocab_size) {}

  void Add(int32_t id, std::string_view source) {
    if (id < 0 || id >= vocab_size_) return;  // the model cannot choose it
    const std::string_view text = tokenizer_.TokenToPiece(id).value_or("");
    ends_.try_emplace(id, EndToken{id, std::string(text), std::string(source)});
  }
  bool empty() const { return ends_.empty(); }

  std::vector<EndToken> Take() {
    std::vector<EndToken> sorted;
    for (auto& [id, end] : ends_) sorted.push_back(std::move(end));
    return sorted;
  }

 private:
  const Tokenizer& tokenizer_;
  const int vocab_size_;
  std::map<int32_t, EndToken> ends_;
};

}  // namespace

std::vector<EndToken> FindEndTokens(const ModelFiles& files, const Tokenizer& tokenizer,
                                    const ChatTemplate& chat) {
  EndTokens ends(tokenizer, files.config().vocab_size);
  for (const NamedToken& named : files.named_end_tokens()) {
    if (named.source != kModelConfigFile) ends.Add(named.id, named.source);
  }
  for (const int32_t id : tokenizer.special_ids().eos) ends.Add(id, "tokenizer files");
  const std::optional<int32_t> turn_end = FindTurnEnd(tokenizer, chat);
  if (turn_end) ends.Add(*turn_end, "chat template");
  const bool is_alone = ends.empty();
  for (const NamedToken& named : files.named_end_tokens()) {
    if (named.source != kModelConfigFile) continue;
    if (is_alone || LooksLikeControl(tokenizer, named.id)) ends.Add(named.id, named.source);
  }
  for (const std::string_view name : kEndNames) {
    const std::optional<int32_t> id = tokenizer.IdOf(name);
    if (id && (tokenizer.IsSpecial(*id) || tokenizer.IsAdded(*id))) ends.Add(*id, "name");
  }
  for (const std::string_view name : kControlEndNames) {
    const std::optional<int32_t> id = tokenizer.IdOf(name);
    if (id && tokenizer.IsSpecial(*id)) ends.Add(*id, "name");
  }
  return ends.Take();
}

}  // namespace coterie
