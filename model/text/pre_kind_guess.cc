#include "model/text/pre_kind_guess.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "common/quoted.h"
#include "model/text/byte_alphabet.h"
#include "model/text/pre_kinds.h"
#include "model/text/unicode.h"

namespace coterie::text {
namespace {

struct TokenAt {
  size_t id = 0;
  std::string_view token;  // empty: no more
};

// A published vocabulary, by tokens that stand where they do in no other one.
struct KnownVocabulary {
  std::string_view kind;
  size_t fewest_tokens;
  std::array<TokenAt, 4> tokens;
};

#define COTERIE_THE "\xC4\xA0the"                                    // "Ġthe"
#define COTERIE_DEEPSEEK(word) "<\xEF\xBD\x9C" word "\xEF\xBD\x9C>"  // <｜word｜>
#define COTERIE_BOS COTERIE_DEEPSEEK("begin\xE2\x96\x81of\xE2\x96\x81sentence")
#define COTERIE_EOS COTERIE_DEEPSEEK("end\xE2\x96\x81of\xE2\x96\x81sentence")

constexpr KnownVocabulary kKnown[] = {
    {"gpt-2", 50257, {{{0, "!"}, {262, COTERIE_THE}, {50256, "<|endoftext|>"}}}},
    {"smollm",
     49152,
     {{{0, "<|endoftext|>"},
       {17, "!"},
       {1000, "()"},
       {20000,
        "\xC4\xA0"
        "Brow"}}}},
    {"llama-bpe", 128256, {{{279, COTERIE_THE}, {128000, "<|begin_of_text|>"}, {128001, "<|end_of_text|>"}}}},
    // Qwen 2, 2.5 and 3, and what was distilled into them; control tokens come behind these.
    {"qwen2",
     151643,
     {{{279, COTERIE_THE},
       {1000, "atus"},
       {20000, "LANG"},
       {49151,
        "\xC4\xA0"
        "dispatched"}}}},
    {"tekken", 131072, {{{1, "<s>"}, {2, "</s>"}, {3, "[INST]"}, {4, "[/INST]"}}}},
    {"deepseek-coder", 32016, {{{0, "!"}, {32013, COTERIE_BOS}, {32014, COTERIE_EOS}}}},
    {"deepseek-llm", 100002, {{{0, "!"}, {100000, COTERIE_BOS}, {100001, COTERIE_EOS}}}},
    {"deepseek-v3", 128000, {{{0, COTERIE_BOS}, {1, COTERIE_EOS}}}},
};

#undef COTERIE_THE
#undef COTERIE_DEEPSEEK
#undef COTERIE_BOS
#undef COTERIE_EOS

bool IsKnown(const KnownVocabulary& known, const std::vector<std::string>& tokens) {
  return tokens.size() >= known.fewest_tokens &&
         std::all_of(known.tokens.begin(), known.tokens.end(),
                     [&](const TokenAt& at) { return at.token.empty() || tokens[at.id] == at.token; });
}

// Tokens looked at; of larger vocabularies every n-th.
constexpr size_t kMaxSamples = 30'000;
// Fewer tokens of several characters say nothing about how words were cut.
constexpr size_t kFewestSamples = 200;

// The text of a token; nothing for those that are part of a character, or one character, which no kind cuts.
std::optional<std::string> TextOf(std::string_view token) {
  std::string bytes;
  for (size_t pos = 0; pos < token.size();) {
    const std::optional<unsigned char> byte = kByteAlphabet.ByteOf(NextRune(token, &pos));
    if (!byte) return std::nullopt;
    bytes.push_back(static_cast<char>(*byte));
  }
  if (!IsWellFormed(bytes) || StepUtf8(bytes).n_bytes == bytes.size()) return std::nullopt;
  return bytes;
}

// Normal tokens of several characters, as text.
std::vector<std::string> Samples(const TokenizerSpec& spec) {
  std::vector<std::string> samples;
  const size_t stride = spec.tokens.size() / kMaxSamples + 1;
  for (size_t id = 0; id < spec.tokens.size(); id += stride) {
    if (!spec.token_types.empty() && spec.token_types[id] != 1) continue;
    if (std::optional<std::string> text = TextOf(spec.tokens[id])) samples.push_back(*std::move(text));
  }
  return samples;
}

// The number of samples that `kind` cuts apart.
StatusOr<size_t> CountCut(const PreKind& kind, const std::vector<std::string>& samples) {
  size_t n_cut = 0;
  for (const std::string& sample : samples) {
    Words words;
    words.buffer = sample;
    words.spans = {{0, static_cast<uint32_t>(sample.size()), true}};
    RETURN_IF_ERROR(kind.pre_tokenizer->Apply(&words));
    n_cut += words.spans.size() > 1 ? 1 : 0;
  }
  return n_cut;
}

}  // namespace

StatusOr<PreKindGuess> GuessPreKind(const TokenizerSpec& spec) {
  for (const KnownVocabulary& known : kKnown) {
    if (IsKnown(known, spec.tokens))
      return PreKindGuess{std::string(known.kind), PreKindGuess::Basis::kKnown};
  }
  PreKindGuess guess{"gpt-2", PreKindGuess::Basis::kNothing};
  const std::vector<std::string> samples = Samples(spec);
  if (samples.size() < kFewestSamples) return guess;
  guess.basis = PreKindGuess::Basis::kFits;
  size_t fewest = std::numeric_limits<size_t>::max();
  for (const std::string_view name : PreKindNames()) {
    ASSIGN_OR_RETURN(const PreKind kind, MakePreKind(name));
    ASSIGN_OR_RETURN(const size_t n_cut, CountCut(kind, samples));
    if (n_cut >= fewest) continue;  // of equals the first, which is the commonest
    fewest = n_cut;
    guess.name = std::string(name);
  }
  return guess;
}

std::string PreKindGuess::Warning(std::string_view said) const {
  const std::string how =
      said.empty() ? "tokenizer.ggml.pre is absent" : absl::StrCat("tokenizer.ggml.pre is ", Quoted(said));
  std::string words = absl::StrCat("the model file does not say how its tokenizer cuts words (", how,
                                   "): read as ", Quoted(name));
  switch (basis) {
    case Basis::kKnown:
      return absl::StrCat(words, ", whose vocabulary it has");
    case Basis::kFits:
      absl::StrAppend(&words, ", which fits its vocabulary best");
      break;
    case Basis::kNothing:
      absl::StrAppend(&words, ", since its vocabulary does not tell");
      break;
  }
  return absl::StrCat(
      words,
      ". If that is wrong, the model gets other tokens than it was trained on and answers worse: "
      "use a newer conversion of it, or set tokenizer.ggml.pre to the name of its kind");
}

}  // namespace coterie::text
