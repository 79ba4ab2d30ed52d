#include "model/text/tokenizer_spec.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "common/quoted.h"
#include "model/text/pre_kind_guess.h"
#include "model/text/pre_kinds.h"
#include "model/text/tokenizer_parts.h"

namespace coterie {
namespace {

using text::TokenizerParts;

enum TokenType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // U+2581

Status CheckSizes(const TokenizerSpec& spec) {
  const size_t n = spec.tokens.size();
  if (!spec.token_types.empty() && spec.token_types.size() != n) {
    return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.token_type has ", spec.token_types.size(),
                                                   " entries for ", n, " tokens"));
  }
  if (!spec.scores.empty() && spec.scores.size() != n) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.ggml.scores has ", spec.scores.size(), " entries for ", n, " tokens"));
  }
  for (const auto& [name, id] :
       {std::pair("bos", spec.bos_id), std::pair("eos", spec.eos_id), std::pair("unknown", spec.unk_id),
        std::pair("padding", spec.pad_id), std::pair("eot", spec.eot_id), std::pair("eom", spec.eom_id)}) {
    if (id.has_value() && (*id < 0 || static_cast<size_t>(*id) >= n)) {
      return absl::InvalidArgumentError(
          absl::StrCat("tokenizer.ggml.", name, "_token_id is ", *id, ", the vocabulary has ", n, " tokens"));
    }
  }
  for (size_t id = 0; id < n; ++id) {
    if (!text::IsWellFormed(spec.tokens[id])) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", id, " (", Quoted(spec.tokens[id]), ") is not UTF-8"));
    }
  }
  return absl::OkStatus();
}

int32_t TypeOf(const TokenizerSpec& spec, size_t id) {
  return spec.token_types.empty() ? static_cast<int32_t>(kNormal) : spec.token_types[id];
}

// "left right"; a part may begin with the separating space itself only in byte-level files, where spaces are
// U+0120.
StatusOr<std::vector<std::pair<std::string, std::string>>> SplitMerges(
    const std::vector<std::string>& lines) {
  std::vector<std::pair<std::string, std::string>> merges;
  merges.reserve(lines.size());
  for (size_t rank = 0; rank < lines.size(); ++rank) {
    const std::string& line = lines[rank];
    const size_t space = line.find(' ');
    if (space == std::string::npos || space == 0 || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("merge ", rank, " (", Quoted(line), ") is not two tokens and a space"));
    }
    merges.emplace_back(line.substr(0, space), line.substr(space + 1));
  }
  return merges;
}

// A SentencePiece vocabulary merges whatever neighbours make a token, the token of the greatest score first;
// as ranked merges: every way to cut every token into two tokens, by descending score (then length of the
// left part, then of the right one, as the reference's converter sorts them).
std::vector<std::pair<std::string, std::string>> MergesFromScores(const TokenizerSpec& spec,
                                                                  const text::Vocabulary& vocabulary) {
  struct Cut {
    int32_t id, left, right;
  };
  std::vector<Cut> cuts;
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    const auto id = static_cast<int32_t>(i);
    if (TypeOf(spec, i) != kNormal || vocabulary.IdOf(spec.tokens[i]) != id) continue;
    const std::string_view token = spec.tokens[i];
    const size_t first = cuts.size();
    for (size_t pos = 0; pos < token.size();) {
      (void)text::NextRune(token, &pos);
      if (pos == token.size()) break;
      const int32_t left = vocabulary.IdOf(token.substr(0, pos));
      const int32_t right = left < 0 ? -1 : vocabulary.IdOf(token.substr(pos));
      if (right >= 0) cuts.push_back({id, left, right});
    }
    std::sort(cuts.begin() + static_cast<ptrdiff_t>(first), cuts.end(), [](const Cut& a, const Cut& b) {
      return std::tie(a.left, a.right) < std::tie(b.left, b.right);
    });
  }
  const auto n_runes = [&](int32_t id) {
    const std::string& s = spec.tokens[static_cast<size_t>(id)];
    return std::count_if(s.begin(), s.end(),
                         [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
  };
  std::stable_sort(cuts.begin(), cuts.end(), [&](const Cut& a, const Cut& b) {
    const float score_a = spec.scores[static_cast<size_t>(a.id)];
    const float score_b = spec.scores[static_cast<size_t>(b.id)];
    if (score_a != score_b) return score_a > score_b;
    return std::pair(n_runes(a.left), n_runes(a.right)) > std::pair(n_runes(b.left), n_runes(b.right));
  });
  std::vector<std::pair<std::string, std::string>> merges;
  merges.reserve(cuts.size());
  for (const Cut& cut : cuts) {
    merges.emplace_back(spec.tokens[static_cast<size_t>(cut.left)],
                        spec.tokens[static_cast<size_t>(cut.right)]);
  }
  return merges;
}

Status FillByteLevel(const TokenizerSpec& spec, TokenizerParts* parts, bool* add_bos) {
  std::string pre = spec.pre;
  if (pre.empty() || pre == "default") {
    ASSIGN_OR_RETURN(const text::PreKindGuess guess, text::GuessPreKind(spec));
    pre = guess.name;
    parts->warnings.push_back(guess.Warning(spec.pre));
  }
  ASSIGN_OR_RETURN(text::PreKind kind, text::MakePreKind(pre));
  parts->normalizer = std::move(kind.normalizer);
  parts->pre_tokenizer = std::move(kind.pre_tokenizer);
  parts->decoder_steps = {text::ByteLevelStep{}};
  RETURN_IF_ERROR(parts->Finish());
  text::BpeOptions options;
  ASSIGN_OR_RETURN(options.merges, SplitMerges(spec.merges));
  options.ignore_merges = kind.ignore_merges;
  ASSIGN_OR_RETURN(parts->model, text::MakeBpe(parts->vocabulary, parts->is_special, std::move(options)));
  *add_bos = kind.add_bos;
  return absl::OkStatus();
}

Status FillSentencePiece(const TokenizerSpec& spec, TokenizerParts* parts, bool* add_bos) {
  if (spec.scores.empty()) {
    return absl::InvalidArgumentError(
        "tokenizer.ggml.model is \"llama\" but tokenizer.ggml.scores is absent");
  }
  const bool add_space_prefix = spec.add_space_prefix.value_or(true);
  ASSIGN_OR_RETURN(std::shared_ptr<const text::Regex> space, text::Regex::CreateLiteral(" "));
  ASSIGN_OR_RETURN(std::shared_ptr<const text::Regex> metaspace, text::Regex::CreateLiteral(kMetaspace));
  std::vector<text::NormalizerPtr> steps;
  if (add_space_prefix) steps.push_back(text::MakePrepend(std::string(kMetaspace)));
  steps.push_back(text::MakeReplace(std::move(space), std::string(kMetaspace)));
  parts->normalizer = text::MakeNormalizerSequence(std::move(steps));
  parts->decoder_steps = {text::ReplaceStep{std::move(metaspace), " "}, text::ByteFallbackStep{},
                          text::FuseStep{}};
  if (add_space_prefix) parts->decoder_steps.push_back(text::StripStep{U' ', 1, 0});
  RETURN_IF_ERROR(parts->Finish());
  text::BpeOptions options;
  options.merges = MergesFromScores(spec, *parts->vocabulary);
  options.has_unk = spec.unk_id.has_value();
  options.unk_id = spec.unk_id.value_or(-1);
  options.fuse_unk = true;
  options.byte_fallback = true;
  ASSIGN_OR_RETURN(parts->model, text::MakeBpe(parts->vocabulary, parts->is_special, std::move(options)));
  *add_bos = true;
  return absl::OkStatus();
}

}  // namespace

StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Create(const TokenizerSpec& spec) {
  RETURN_IF_ERROR(CheckSizes(spec));
  auto parts = std::make_unique<TokenizerParts>();
  ASSIGN_OR_RETURN(text::Vocabulary vocabulary, text::Vocabulary::Create(spec.tokens));
  parts->vocabulary = std::make_shared<const text::Vocabulary>(std::move(vocabulary));
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const int32_t type = TypeOf(spec, id);
    const bool is_control = type == kControl || type == kUnknown;
    if ((!is_control && type != kUserDefined) || spec.tokens[id].empty()) continue;
    parts->added_tokens.push_back(
        {.content = spec.tokens[id], .id = static_cast<int32_t>(id), .special = is_control});
  }

  bool add_bos = false;
  if (spec.model == "gpt2") {
    RETURN_IF_ERROR(FillByteLevel(spec, parts.get(), &add_bos));
  } else if (spec.model == "llama") {
    RETURN_IF_ERROR(FillSentencePiece(spec, parts.get(), &add_bos));
  } else {
    return absl::UnimplementedError(
        absl::StrCat("tokenizer.ggml.model is ", Quoted(spec.model), "; known are gpt2 and llama"));
  }

  SpecialTokenIds& ids = parts->special_ids;
  ids.bos = spec.bos_id.value_or(-1);
  ids.unk = spec.unk_id.value_or(-1);
  ids.pad = spec.pad_id.value_or(-1);
  for (const std::optional<int32_t>& id : {spec.eos_id, spec.eot_id, spec.eom_id}) {
    if (id.has_value() && std::find(ids.eos.begin(), ids.eos.end(), *id) == ids.eos.end())
      ids.eos.push_back(*id);
  }
  if (spec.add_bos.value_or(add_bos) && spec.bos_id.has_value()) parts->prefix.push_back(*spec.bos_id);
  if (spec.add_eos.value_or(false) && spec.eos_id.has_value()) parts->suffix.push_back(*spec.eos_id);
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(parts)));
}

}  // namespace coterie
