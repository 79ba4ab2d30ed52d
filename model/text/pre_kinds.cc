#include "model/text/pre_kinds.h"

#include <array>
#include <memory>
#include <utility>

#include "absl/strings/str_join.h"
#include "common/quoted.h"

namespace coterie::text {
namespace {

constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Qwen2's without English contractions, which Turkish suffixes would be taken for.
constexpr std::string_view kUfakZeka =
    R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kSeedCoder =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kMiniCpm5 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kThreeDigits = R"(\p{N}{1,3})";
constexpr std::string_view kDigits = R"(\p{N}+)";
constexpr std::string_view kLineEnd = R"([\r\n])";
constexpr std::string_view kEastAsian = "[一-龥ࠀ-一가-퟿]+";
constexpr std::string_view kDeepSeekLetters =
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1F7D}ᾀ-ᾴᾶ-ᾼ\x{1FBE}ῂ-ῄῆ-ῌῐ-\x{1FD3}ῖ-\x{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)";
constexpr std::string_view kDeepSeekSigns = R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)";
constexpr std::string_view kTrailingSpace = R"(\s+$)";
constexpr std::string_view kSpacedLetters = R"(\s?\p{L}+)";
constexpr std::string_view kSpacedSigns = R"(\s?\p{P}+)";
constexpr std::string_view kHanAndKana = "[一-龥぀-ゟ゠-ヿ]+";
constexpr std::string_view kDeepSeek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)"
    R"(|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kBloom = " ?[^(\\s|.,!?…。，、।۔،)]+";

// A way to cut words: single digits first where asked for, then each expression in turn on what the ones
// before left, then (only where there is none) GPT-2's expression.
struct Way {
  std::string_view name;
  std::array<std::string_view, 6> splits;  // empty ones at the end
  bool single_digits = false;              // cut out before the expressions
  bool nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;
};

constexpr Way kWays[] = {
    {.name = "gpt-2", .splits = {}},
    {.name = "smollm", .splits = {}, .single_digits = true},
    {.name = "llama-bpe", .splits = {kLlama3}, .ignore_merges = true, .add_bos = true},
    {.name = "smaug-bpe", .splits = {kLlama3}},  // Llama 3's, converted without its merge rule
    {.name = "glm4", .splits = {kLlama3}, .ignore_merges = true},
    {.name = "qwen2", .splits = {kQwen2}, .nfc = true},
    {.name = "stablelm2", .splits = {kQwen2}},
    {.name = "qwen35", .splits = {kQwen35}, .nfc = true},
    {.name = "ufakzeka", .splits = {kUfakZeka}},
    {.name = "seed-coder", .splits = {kSeedCoder}},
    {.name = "minicpm5", .splits = {kThreeDigits, kMiniCpm5}, .ignore_merges = true},
    {.name = "tekken", .splits = {kTekken}, .ignore_merges = true, .add_bos = true},
    {.name = "gpt-4o", .splits = {kGpt4o}},
    {.name = "deepseek-llm",
     .splits = {kLineEnd, kDeepSeekLetters, kDeepSeekSigns, kTrailingSpace, kEastAsian, kDigits}},
    {.name = "deepseek-coder", .splits = {kLineEnd, kSpacedLetters, kSpacedSigns, kEastAsian, R"(\p{N})"}},
    {.name = "deepseek-v3", .splits = {kThreeDigits, kHanAndKana, kDeepSeek3}},
    {.name = "bloom", .splits = {kBloom}},
    {.name = "viking", .splits = {kBloom, R"(\p{N})"}},
};

struct Alias {
  std::string_view name;
  std::string_view way;
};
constexpr Alias kAliases[] = {
    {"gpt2", "gpt-2"},
    {"phi-2", "gpt-2"},
    {"jina-es", "gpt-2"},
    {"jina-de", "gpt-2"},
    {"jina-v1-en", "gpt-2"},
    {"jina-v2-es", "gpt-2"},
    {"jina-v2-de", "gpt-2"},
    {"jina-v2-code", "gpt-2"},
    {"roberta-bpe", "gpt-2"},
    {"modern-bert", "gpt-2"},
    {"gigachat", "gpt-2"},
    {"a.x-4.0", "gpt-2"},
    {"mellum", "gpt-2"},
    {"exaone4", "gpt-2"},
    {"trillion", "gpt-2"},
    {"granite-docling", "gpt-2"},
    {"mpt", "gpt-2"},
    {"olmo", "gpt-2"},
    {"jais", "gpt-2"},
    {"starcoder", "smollm"},
    {"refact", "smollm"},
    {"command-r", "smollm"},
    {"codeshell", "smollm"},
    {"exaone", "smollm"},
    {"minerva-7b", "smollm"},
    {"mellum2", "smollm"},
    {"llama3", "llama-bpe"},
    {"llama-v3", "llama-bpe"},
    {"falcon3", "llama-bpe"},
    {"falcon-h1", "llama-bpe"},
    {"pixtral", "llama-bpe"},
    {"midm-2.0", "llama-bpe"},
    {"lfm2", "llama-bpe"},
    {"jina-v5-nano", "llama-bpe"},
    {"dbrx", "smaug-bpe"},
    {"chatglm-bpe", "smaug-bpe"},
    {"glm5", "glm4"},
    {"deepseek-r1-qwen", "qwen2"},
    {"megrez", "qwen2"},
    {"kormo", "qwen2"},
    {"kolibri", "qwen2"},
    {"f2llmv2", "qwen2"},
    {"hunyuan", "stablelm2"},
    {"solar-open", "stablelm2"},
    {"grok-2", "stablelm2"},
    {"llama4", "gpt-4o"},
    {"kanana2", "gpt-4o"},
    {"talkie", "gpt-4o"},
    {"minimax-m2", "gpt-4o"},
    {"hunyuan-dense", "deepseek-v3"},
    {"joyai-llm", "deepseek-v3"},
    {"hy_v4", "deepseek-v3"},
    {"poro-chat", "bloom"},
    {"gpt3-finnish", "bloom"},
};

const Way* FindWay(std::string_view name) {
  for (const Alias& alias : kAliases) {
    if (alias.name == name) name = alias.way;
  }
  for (const Way& way : kWays) {
    if (way.name == name) return &way;
  }
  return nullptr;
}

}  // namespace

StatusOr<PreKind> MakePreKind(std::string_view name) {
  const Way* way = FindWay(name);
  if (way == nullptr) {
    return absl::UnimplementedError(absl::StrCat(
        "tokenizer.ggml.pre is ", Quoted(name), "; known are ",
        absl::StrJoin(PreKindNames(), ", ", [](std::string* out, std::string_view s) { out->append(s); }),
        " and names of models that cut words as one of these"));
  }
  std::vector<PreTokenizerPtr> steps;
  if (way->single_digits) steps.push_back(MakeDigits(/*individual_digits=*/true));
  for (const std::string_view pattern : way->splits) {
    if (pattern.empty()) break;
    ASSIGN_OR_RETURN(std::shared_ptr<const Regex> regex, Regex::Create(pattern));
    steps.push_back(MakeSplit(std::move(regex), SplitBehavior::kIsolated, /*invert=*/false));
  }
  ASSIGN_OR_RETURN(PreTokenizerPtr bytes,
                   MakeByteLevel(/*add_prefix_space=*/false, /*use_regex=*/way->splits[0].empty()));
  steps.push_back(std::move(bytes));
  PreKind kind;
  // One step alone is described as such: the description is part of the tokenizer's digest.
  kind.pre_tokenizer = steps.size() == 1 ? std::move(steps[0]) : MakePreTokenizerSequence(std::move(steps));
  if (way->nfc) kind.normalizer = MakeUnicodeNormalizer(NormalForm::kC);
  kind.ignore_merges = way->ignore_merges;
  kind.add_bos = way->add_bos;
  return kind;
}

std::vector<std::string_view> PreKindNames() {
  std::vector<std::string_view> names;
  for (const Way& way : kWays) names.push_back(way.name);
  return names;
}

}  // namespace coterie::text
