#include <cstdint>
#include <string_view>
#include <vector>

#include "common/check.h"
#include "model/text/continuation.h"
#include "model/text/incremental_detokenizer.h"
#include "model/text/stop_matcher.h"
#include "model/text/unicode.h"
#include "tests/model/text/text_testing.h"

// Any bytes, through each kind of tokenizer, there and back. The first byte chooses the tokenizer, the second
// where trusted text, or the prompt, ends; the rest is text, and then read as token ids.
namespace coterie {
namespace {

struct Subject {
  std::shared_ptr<const Tokenizer> tokenizer;
  bool is_lossless;  // what is encoded decodes to itself
  // So does a text that goes on after a prompt, but for this character (SentencePiece's space).
  bool goes_on_lossless;
  std::string_view not_this = "";
};

std::vector<Subject> MakeSubjects() {
  const std::vector<std::string> merges = {"a b",         "\xC4\xA0 a", "ab c",
                                           "\xC4\xA0 ab", "1 2",        "\xC3\xA3 \xC4\xA3"};
  std::vector<Subject> subjects;
  for (const char* pre : {"gpt-2", "smollm", "llama-bpe", "tekken"}) {
    subjects.push_back({Tokenizer::Create(SmallByteLevelSpec(pre, merges)).value(), true, true});
  }
  subjects.push_back({Tokenizer::Create(SmallByteLevelSpec("qwen2", merges)).value(), false, false});  // NFC
  static const std::string meta = "\xE2\x96\x81";
  TokenizerSpec spec = SmallSentencePieceSpec({meta, "a", "b", meta + "a", "ab", meta + meta});
  subjects.push_back({Tokenizer::Create(spec).value(), false, true, meta});
  subjects.push_back(
      {Tokenizer::FromJson(SmallWordPieceJson({"un", "##aff", "##able", "a", "##b"}), "").value(), false,
       false});
  spec.add_space_prefix = false;
  subjects.push_back({Tokenizer::Create(spec).value(), false, true, meta});
  return subjects;
}

// `text` goes on after a prompt: the seam's properties (model/text/continuation.h).
void CheckContinuation(const Subject& subject, const TextPiece& prompt, bool add_special,
                       std::string_view text) {
  const Tokenizer& tokenizer = *subject.tokenizer;
  const std::vector<int32_t> prompt_ids =
      tokenizer.EncodePieces(std::span(&prompt, 1), {.add_special = add_special}).value();
  const EncodedPrompt encoded{std::span(&prompt, 1), add_special, prompt_ids};
  const auto go_on = [&](std::string_view more, size_t max_tokens) {
    return EncodeContinuation(subject.tokenizer, encoded, more, max_tokens);
  };
  constexpr size_t kAmple = 1 << 20;
  const std::vector<int32_t> ids = go_on(text, kAmple).value();
  for (const int32_t id : ids) {
    COTERIE_CHECK(id >= 0 && static_cast<size_t>(id) < tokenizer.vocab_size());
    COTERIE_CHECK(id == tokenizer.special_ids().unk || !tokenizer.IsSpecial(id));
  }
  const std::string decoded = DecodeContinuation(subject.tokenizer, prompt_ids, ids);
  COTERIE_CHECK(text::IsWellFormed(decoded));
  if (const auto bounded = go_on(text, ids.size() / 2); bounded.ok()) {
    COTERIE_CHECK(bounded->size() <= ids.size() / 2);
  }
  const std::string want = text::ReplaceIllFormed(text);
  if (!subject.goes_on_lossless ||
      (!subject.not_this.empty() && want.find(subject.not_this) != std::string::npos))
    return;
  COTERIE_CHECK(decoded == want);
  // What was generated is scored: the ids of its text are its ids.
  if (want == text) COTERIE_CHECK(go_on(decoded, ids.size()).value() == ids);
}

void Check(const Subject& subject, std::string_view text, size_t n_trusted) {
  const Tokenizer& tokenizer = *subject.tokenizer;
  const std::vector<int32_t> ids = tokenizer.Encode(text, {}).value();
  for (const int32_t id : ids) {
    COTERIE_CHECK(id == tokenizer.special_ids().unk || !tokenizer.IsSpecial(id));
  }
  if (subject.is_lossless) COTERIE_CHECK(tokenizer.Decode(ids) == text::ReplaceIllFormed(text));

  const TextPiece pieces[] = {{text.substr(0, n_trusted), true}, {text.substr(n_trusted), false}};
  COTERIE_CHECK(tokenizer.EncodePieces(pieces, {}).ok());

  for (const bool add_special : {false, true}) {
    for (const bool is_trusted : {false, true}) {
      CheckContinuation(subject, {text.substr(0, n_trusted), is_trusted}, add_special,
                        text.substr(n_trusted));
    }
  }

  std::vector<int32_t> random_ids;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    const unsigned value =
        static_cast<unsigned char>(text[i]) * 256u + static_cast<unsigned char>(text[i + 1]);
    random_ids.push_back(static_cast<int32_t>(value % (tokenizer.vocab_size() + 2)));
  }
  IncrementalDetokenizer detokenizer(subject.tokenizer);
  StopMatcher matcher(StopStrings::Create({"ab", "bca"}).value());
  std::string streamed;
  std::string delivered;
  for (const int32_t id : random_ids) {
    const std::string piece = detokenizer.Append(id);
    COTERIE_CHECK(text::IsWellFormed(piece));
    streamed += piece;
    delivered += matcher.Append(piece);
  }
  const std::string rest = detokenizer.Flush();
  streamed += rest;
  delivered += matcher.Append(rest);
  delivered += matcher.Flush();
  COTERIE_CHECK(text::IsWellFormed(streamed) && text::IsWellFormed(delivered));
  COTERIE_CHECK(delivered.find("ab") == std::string::npos && delivered.find("bca") == std::string::npos);
  COTERIE_CHECK(streamed.compare(0, delivered.size(), delivered) == 0);
  if (subject.is_lossless) COTERIE_CHECK(streamed == tokenizer.Decode(random_ids));
}

}  // namespace
}  // namespace coterie

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n_bytes) {
  static const std::vector<coterie::Subject> subjects = coterie::MakeSubjects();
  if (n_bytes < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, n_bytes - 2);
  coterie::Check(subjects[data[0] % subjects.size()], text, data[1] % (text.size() + 1));
  return 0;
}
