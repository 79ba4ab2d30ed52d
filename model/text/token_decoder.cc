#include "model/text/token_decoder.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "model/text/byte_alphabet.h"
#include "model/text/unicode.h"

namespace coterie::text {
namespace {

template <typename... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <typename... F>
Overloaded(F...) -> Overloaded<F...>;

std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  size_t pos = 0;
  for (size_t found; (found = text.find(from, pos)) != std::string_view::npos; pos = found + from.size()) {
    out.append(text.substr(pos, found - pos)).append(to);
  }
  return out.append(text.substr(pos));
}

// The WordPiece decoder's tidying of English, in the reference's order.
std::string CleanUp(std::string text) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kRules = {{{" .", "."},
                                                                                     {" ?", "?"},
                                                                                     {" !", "!"},
                                                                                     {" ,", ","},
                                                                                     {" ' ", "'"},
                                                                                     {" n't", "n't"},
                                                                                     {" 'm", "'m"},
                                                                                     {" do not", " don't"},
                                                                                     {" 's", "'s"},
                                                                                     {" 've", "'ve"},
                                                                                     {" 're", "'re"}}};
  for (const auto& [from, to] : kRules) text = ReplaceAll(text, from, to);
  return text;
}

// A token that grows beyond this by replacing, or takes too long to match, is shown as it is.
constexpr size_t kMaxReplacedBytes = 1 << 20;

std::string Replaced(const ReplaceStep& step, std::string_view token) {
  std::vector<Match> matches;
  if (!step.pattern->Find(token, 0, token.size(), &matches).ok()) return std::string(token);
  std::string out;
  for (const Match& match : matches) {
    out +=
        match.is_match ? std::string_view(step.content) : token.substr(match.begin, match.end - match.begin);
    if (out.size() > kMaxReplacedBytes) return std::string(token);
  }
  return out;
}

std::string Joined(const WordPieceStep& step, std::string_view token, bool is_first) {
  std::string text;
  if (is_first) {
    text = token;
  } else if (token.substr(0, step.prefix.size()) == step.prefix) {
    text = token.substr(step.prefix.size());
  } else {
    text.append(" ").append(token);
  }
  return step.cleanup ? CleanUp(std::move(text)) : text;
}

std::string Spaced(const MetaspaceStep& step, std::string_view token, bool is_first) {
  std::string text;
  for (size_t pos = 0; pos < token.size();) {
    const size_t begin = pos;
    if (NextRune(token, &pos) != step.replacement) {
      text += token.substr(begin, pos - begin);
    } else if (!is_first || !step.drop_first) {
      text += ' ';
    }
  }
  return text;
}

std::optional<unsigned char> HexByte(std::string_view digits) {
  unsigned value = 0;
  for (const char c : digits) {
    const char lower = static_cast<char>(c | 0x20);
    if (c >= '0' && c <= '9') {
      value = value * 16 + static_cast<unsigned>(c - '0');
    } else if (lower >= 'a' && lower <= 'f') {
      value = value * 16 + static_cast<unsigned>(lower - 'a' + 10);
    } else {
      return std::nullopt;
    }
  }
  return static_cast<unsigned char>(value);
}

// <0x0A> -> 0x0A.
std::optional<unsigned char> ByteToken(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return std::nullopt;
  return HexByte(token.substr(3, 2));
}

// A byte-level token's bytes; a token with a character outside the alphabet (an added one) stands for itself.
std::string ToBytes(std::string_view token) {
  std::string bytes;
  for (size_t pos = 0; pos < token.size();) {
    const std::optional<unsigned char> byte = kByteAlphabet.ByteOf(NextRune(token, &pos));
    if (!byte.has_value()) return std::string(token);
    bytes.push_back(static_cast<char>(*byte));
  }
  return bytes;
}

std::string Name(const DecoderStep& step) {
  return std::visit(
      Overloaded{
          [](const ByteLevelStep&) -> std::string { return "ByteLevel"; },
          [](const FuseStep&) -> std::string { return "Fuse"; },
          [](const ByteFallbackStep&) -> std::string { return "ByteFallback"; },
          [](const JoinStep&) -> std::string { return "Join"; },
          [](const ReplaceStep& s) {
            return absl::StrCat("Replace(", absl::CHexEscape(s.pattern->pattern()), ",",
                                absl::CHexEscape(s.content), ")");
          },
          [](const StripStep& s) {
            return absl::StrCat("Strip(", static_cast<uint32_t>(s.content), ",", s.start, ",", s.stop, ")");
          },
          [](const WordPieceStep& s) {
            return absl::StrCat("WordPiece(", absl::CHexEscape(s.prefix), ",", s.cleanup, ")");
          },
          [](const MetaspaceStep& s) {
            return absl::StrCat("Metaspace(", static_cast<uint32_t>(s.replacement), ",", s.drop_first, ")");
          },
      },
      step);
}

template <typename T>
bool Is(const DecoderStep& step) {
  return std::holds_alternative<T>(step);
}

}  // namespace

StatusOr<TokenDecoder> TokenDecoder::Create(std::vector<DecoderStep> steps) {
  bool is_fused = false;
  for (const DecoderStep& step : steps) {
    if (is_fused && !Is<FuseStep>(step) && !Is<StripStep>(step)) {
      return absl::InvalidArgumentError(
          absl::StrCat("decoder ", Name(step), " behind one that fuses all tokens is not supported"));
    }
    is_fused = is_fused || Is<FuseStep>(step) || Is<ByteLevelStep>(step);
  }
  return TokenDecoder(std::move(steps));
}

std::string TokenDecoder::Describe() const {
  std::string out;
  for (const DecoderStep& step : steps_) absl::StrAppend(&out, Name(step), ";");
  return out;
}

TokenDecoderRun::TokenDecoderRun(const TokenDecoder* decoder, bool eager)
    : decoder_(decoder), states_(decoder->steps().size()) {
  const std::vector<DecoderStep>& steps = decoder->steps();
  for (size_t i = 0; i < steps.size(); ++i) {
    // Characters of one run may be given out as several tokens only where nobody looks at tokens any more.
    states_[i].eager = eager && (i + 1 == steps.size() || Is<FuseStep>(steps[i + 1]));
  }
}

void TokenDecoderRun::Push(std::string_view token, std::string* out) { Feed(0, token, true, out); }

void TokenDecoderRun::Finish(std::string* out) { End(0, out); }

std::string TokenDecoderRun::BytesOf(std::string_view token) const {
  std::string bytes(token);
  bool is_fused = false;
  for (size_t index = 0; index < states_.size(); ++index) {
    const StepState& state = states_[index];
    // A lone byte (of ByteFallback) is no text that the other steps could read.
    const bool is_text = IsWellFormed(bytes);
    std::visit(Overloaded{
                   [&](const ByteLevelStep&) {
                     if (is_text) bytes = ToBytes(bytes);
                     is_fused = true;
                   },
                   [&](const FuseStep&) { is_fused = true; },
                   [&](const ByteFallbackStep&) {
                     if (const std::optional<unsigned char> byte = ByteToken(bytes))
                       bytes.assign(1, static_cast<char>(*byte));
                   },
                   [&](const JoinStep&) {
                     if (!state.is_first) bytes.insert(0, 1, ' ');
                   },
                   [&](const ReplaceStep& step) {
                     if (is_text) bytes = Replaced(step, bytes);
                   },
                   [&](const StripStep& step) { bytes = Stripped(step, state, is_fused, bytes); },
                   [&](const WordPieceStep& step) { bytes = Joined(step, bytes, state.is_first); },
                   [&](const MetaspaceStep& step) {
                     if (is_text) bytes = Spaced(step, bytes, state.is_first);
                   },
               },
               decoder_->steps()[index]);
  }
  return bytes;
}

// Behind a step that fuses, the beginning is the whole text's (how much of it went is in `state`) and the end
// is not known yet; elsewhere both are the token's own.
std::string TokenDecoderRun::Stripped(const StripStep& step, const StepState& state, bool is_fused,
                                      const std::string& bytes) {
  std::string content;
  AppendRune(step.content, &content);
  std::string_view rest = bytes;
  const size_t n_before = is_fused ? state.n_stripped : 0;
  if (!is_fused || state.is_leading) {
    for (size_t n = n_before; n < step.start && rest.substr(0, content.size()) == content; ++n)
      rest.remove_prefix(content.size());
  }
  for (size_t n = 0; !is_fused && n < step.stop && rest.ends_with(content); ++n)
    rest.remove_suffix(content.size());
  return std::string(rest);
}

void TokenDecoderRun::Feed(size_t index, std::string_view chunk, bool ends_token, std::string* out) {
  if (index == states_.size()) {
    *out += chunk;
    return;
  }
  StepState& state = states_[index];
  std::visit(
      Overloaded{
          [&](const ByteLevelStep&) { FeedByteLevel(index, chunk, out); },
          [&](const FuseStep&) { Feed(index + 1, chunk, false, out); },
          [&](const ByteFallbackStep&) { FeedByteFallback(index, chunk, out); },
          [&](const JoinStep&) {
            if (!state.is_first) Feed(index + 1, " ", false, out);
            Feed(index + 1, chunk, true, out);
          },
          [&](const ReplaceStep& step) { Feed(index + 1, Replaced(step, chunk), true, out); },
          [&](const StripStep& step) { FeedStrip(index, step, chunk, ends_token, out); },
          [&](const WordPieceStep& step) { Feed(index + 1, Joined(step, chunk, state.is_first), true, out); },
          [&](const MetaspaceStep& step) { Feed(index + 1, Spaced(step, chunk, state.is_first), true, out); },
      },
      decoder_->steps()[index]);
  state.is_first = false;
}

// Passes on the whole UTF-8 characters and holds back the bytes behind them.
void TokenDecoderRun::FeedByteLevel(size_t index, std::string_view token, std::string* out) {
  std::string& pending = states_[index].pending;
  pending += ToBytes(token);
  std::string text;
  std::string_view rest = pending;
  while (!rest.empty()) {
    const Utf8Step step = StepUtf8(rest);
    if (step.kind == Utf8Step::kIncomplete) break;
    text += step.kind == Utf8Step::kCharacter ? rest.substr(0, step.n_bytes) : kReplacement;
    rest.remove_prefix(step.n_bytes);
  }
  pending.erase(0, pending.size() - rest.size());
  Feed(index + 1, text, false, out);
}

void TokenDecoderRun::FeedByteFallback(size_t index, std::string_view token, std::string* out) {
  StepState& state = states_[index];
  const std::optional<unsigned char> byte = ByteToken(token);
  if (!byte.has_value()) {
    EndByteRun(index, out);
    Feed(index + 1, token, true, out);
    return;
  }
  state.pending.push_back(static_cast<char>(*byte));
  if (!state.eager) return;
  std::string text;
  std::string_view rest = state.pending;
  while (!rest.empty()) {
    const Utf8Step step = StepUtf8(rest);
    if (step.kind == Utf8Step::kIncomplete) break;
    if (step.kind == Utf8Step::kCharacter) {
      text += rest.substr(0, step.n_bytes);
    } else {
      for (size_t i = 0; i < step.n_bytes; ++i) text += kReplacement;
    }
    rest.remove_prefix(step.n_bytes);
  }
  state.pending.erase(0, state.pending.size() - rest.size());
  if (!text.empty()) Feed(index + 1, text, true, out);
}

void TokenDecoderRun::EndByteRun(size_t index, std::string* out) {
  const std::string run = std::exchange(states_[index].pending, {});
  if (run.empty()) return;
  if (IsWellFormed(run)) {
    Feed(index + 1, run, true, out);
    return;
  }
  for (size_t i = 0; i < run.size(); ++i) Feed(index + 1, kReplacement, true, out);
}

void TokenDecoderRun::FeedStrip(size_t index, const StripStep& step, std::string_view chunk, bool ends_token,
                                std::string* out) {
  StepState& state = states_[index];
  std::string text;
  for (size_t pos = 0; pos < chunk.size();) {
    const size_t begin = pos;
    const bool is_content = NextRune(chunk, &pos) == step.content;
    if (state.is_leading && is_content && state.n_stripped < step.start) {
      ++state.n_stripped;
      continue;
    }
    state.is_leading = false;
    if (is_content && state.n_held < step.stop) {
      ++state.n_held;  // may be the end
      continue;
    }
    if (!is_content) {
      for (; state.n_held > 0; --state.n_held) AppendRune(step.content, &text);
    }
    text += chunk.substr(begin, pos - begin);
  }
  if (ends_token) state = StepState();
  Feed(index + 1, text, ends_token, out);
}

void TokenDecoderRun::End(size_t index, std::string* out) {
  if (index == states_.size()) return;
  const DecoderStep& step = decoder_->steps()[index];
  if (Is<ByteLevelStep>(step)) {
    if (!states_[index].pending.empty()) Feed(index + 1, kReplacement, false, out);
    Feed(index + 1, "", true, out);
  } else if (Is<FuseStep>(step)) {
    Feed(index + 1, "", true, out);
  } else if (Is<ByteFallbackStep>(step)) {
    EndByteRun(index, out);
  }
  End(index + 1, out);
}

}  // namespace coterie::text
