#include "model/text/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "model/text/byte_alphabet.h"
#include "model/text/normalizer.h"
#include "model/text/unicode.h"

namespace coterie::text {
namespace {

// The stretches of [begin, end) whose characters satisfy `is_match`, one match per character, and those
// between.
template <typename IsMatch>
void FindRunes(std::string_view text, size_t begin, size_t end, IsMatch is_match,
               std::vector<Match>* matches) {
  size_t covered = begin;
  for (size_t pos = begin; pos < end;) {
    const size_t from = pos;
    if (!is_match(NextRune(text, &pos))) continue;
    if (covered < from)
      matches->push_back({static_cast<uint32_t>(covered), static_cast<uint32_t>(from), false});
    matches->push_back({static_cast<uint32_t>(from), static_cast<uint32_t>(pos), true});
    covered = pos;
  }
  if (covered < end) matches->push_back({static_cast<uint32_t>(covered), static_cast<uint32_t>(end), false});
}

// Turns the matches of one word into words, as `behavior` says.
void Cut(const std::vector<Match>& matches, SplitBehavior behavior, const Words::Span& word,
         std::vector<Words::Span>* out) {
  const size_t first = out->size();
  const auto push = [&](const Match& m) {
    out->push_back({m.begin, m.end, word.at_start && m.begin == word.begin});
  };
  bool previous = false;  // whether the stretch before was a match
  switch (behavior) {
    case SplitBehavior::kRemoved:
      for (const Match& m : matches) {
        if (!m.is_match) push(m);
      }
      break;
    case SplitBehavior::kIsolated:
      for (const Match& m : matches) push(m);
      break;
    case SplitBehavior::kContiguous:
      for (const Match& m : matches) {
        if (m.is_match == previous && out->size() > first) {
          out->back().end = m.end;
        } else {
          push(m);
        }
        previous = m.is_match;
      }
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Match& m : matches) {
        if (m.is_match && !previous && out->size() > first) {
          out->back().end = m.end;
        } else {
          push(m);
        }
        previous = m.is_match;
      }
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto m = matches.rbegin(); m != matches.rend(); ++m) {
        if (m->is_match && !previous && out->size() > first) {
          out->back().begin = m->begin;
          out->back().at_start = word.at_start && m->begin == word.begin;
        } else {
          push(*m);
        }
        previous = m->is_match;
      }
      std::reverse(out->begin() + static_cast<ptrdiff_t>(first), out->end());
      break;
  }
  const auto is_empty = [](const Words::Span& span) { return span.begin == span.end; };
  out->erase(std::remove_if(out->begin() + static_cast<ptrdiff_t>(first), out->end(), is_empty), out->end());
}

template <typename IsMatch>
void CutAtRunes(Words* words, IsMatch is_match, SplitBehavior behavior) {
  std::vector<Words::Span> spans;
  spans.reserve(words->spans.size() * 2);
  std::vector<Match> matches;
  for (const Words::Span& word : words->spans) {
    matches.clear();
    FindRunes(words->buffer, word.begin, word.end, is_match, &matches);
    Cut(matches, behavior, word, &spans);
  }
  words->spans = std::move(spans);
}

Status CutAtPattern(Words* words, const Regex& pattern, SplitBehavior behavior, bool invert) {
  std::vector<Words::Span> spans;
  spans.reserve(words->spans.size() * 4);
  std::vector<Match> matches;
  for (const Words::Span& word : words->spans) {
    matches.clear();
    RETURN_IF_ERROR(pattern.Find(words->buffer, word.begin, word.end, &matches));
    if (invert) {
      for (Match& match : matches) match.is_match = !match.is_match;
    }
    Cut(matches, behavior, word, &spans);
  }
  words->spans = std::move(spans);
  return absl::OkStatus();
}

// The position of a word, which decides whether a space is put before it.
struct WordPlace {
  bool at_start;   // holds the first character of the whole input
  bool continues;  // follows directly on text outside the input
};

// Rewrites each word: `rewrite(word, place, &buffer)` appends the new text.
template <typename Rewrite>
Status RewriteWords(Words* words, Rewrite rewrite) {
  std::string buffer;
  buffer.reserve(words->buffer.size() + words->buffer.size() / 2);
  // Once the first character is gone, the word behind it continues nothing.
  words->continues = words->continues && !words->spans.empty() && words->spans.front().begin == 0;
  for (Words::Span& span : words->spans) {
    const auto begin = static_cast<uint32_t>(buffer.size());
    const WordPlace place = {span.at_start, words->continues && span.begin == 0};
    rewrite(std::string_view(words->buffer).substr(span.begin, span.end - span.begin), place, &buffer);
    if (buffer.size() > kMaxRewrittenBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("a text cut into words has more than ", kMaxRewrittenBytes, " bytes, the limit"));
    }
    span = {begin, static_cast<uint32_t>(buffer.size()), span.at_start};
  }
  words->buffer = std::move(buffer);
  return absl::OkStatus();
}

class SplitPreTokenizer final : public PreTokenizer {
 public:
  SplitPreTokenizer(std::shared_ptr<const Regex> pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  Status Apply(Words* words) const override { return CutAtPattern(words, *pattern_, behavior_, invert_); }
  std::string Describe() const override {
    return absl::StrCat("Split(", absl::CHexEscape(pattern_->pattern()), ",", static_cast<int>(behavior_),
                        ",", invert_, ")");
  }

 private:
  std::shared_ptr<const Regex> pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

// Splits at characters with a property.
class RuneSplit final : public PreTokenizer {
 public:
  RuneSplit(std::string name, bool (*is_match)(char32_t), SplitBehavior behavior)
      : name_(std::move(name)), is_match_(is_match), behavior_(behavior) {}
  Status Apply(Words* words) const override {
    CutAtRunes(words, is_match_, behavior_);
    return absl::OkStatus();
  }
  std::string Describe() const override { return absl::StrCat(name_, "(", static_cast<int>(behavior_), ")"); }

 private:
  std::string name_;
  bool (*is_match_)(char32_t);
  SplitBehavior behavior_;
};

// Runs of word characters and runs of other visible characters; white space goes.
class WhitespacePreTokenizer final : public PreTokenizer {
 public:
  Status Apply(Words* words) const override {
    enum Kind { kSpace, kWord, kSymbol };
    std::vector<Words::Span> spans;
    for (const Words::Span& word : words->spans) {
      Kind previous = kSpace;
      for (size_t pos = word.begin; pos < word.end;) {
        const auto begin = static_cast<uint32_t>(pos);
        const char32_t rune = NextRune(words->buffer, &pos);
        const Kind kind = IsWord(rune) ? kWord : IsWhitespace(rune) ? kSpace : kSymbol;
        if (kind != kSpace && kind == previous) {
          spans.back().end = static_cast<uint32_t>(pos);
        } else if (kind != kSpace) {
          spans.push_back({begin, static_cast<uint32_t>(pos), word.at_start && begin == word.begin});
        }
        previous = kind;
      }
    }
    words->spans = std::move(spans);
    return absl::OkStatus();
  }
  std::string Describe() const override { return "Whitespace"; }
};

// GPT-2's expression (openai/gpt-2, encoder.py).
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

class ByteLevel final : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, std::shared_ptr<const Regex> pattern)
      : add_prefix_space_(add_prefix_space), pattern_(std::move(pattern)) {
    for (int byte = 0; byte < 256; ++byte) {
      AppendRune(kByteAlphabet.RuneOf(static_cast<unsigned char>(byte)),
                 &characters_[static_cast<size_t>(byte)]);
    }
  }
  Status Apply(Words* words) const override {
    if (add_prefix_space_) {
      RETURN_IF_ERROR(RewriteWords(words, [](std::string_view word, WordPlace place, std::string* out) {
        if (word[0] != ' ' && !place.continues) *out += ' ';
        *out += word;
      }));
    }
    if (pattern_ != nullptr) {
      RETURN_IF_ERROR(CutAtPattern(words, *pattern_, SplitBehavior::kIsolated, /*invert=*/false));
    }
    return RewriteWords(words, [this](std::string_view word, WordPlace, std::string* out) {
      for (const char byte : word) *out += characters_[static_cast<unsigned char>(byte)];
    });
  }
  std::string Describe() const override {
    return absl::StrCat("ByteLevel(", add_prefix_space_, ",", pattern_ != nullptr, ")");
  }

 private:
  bool add_prefix_space_;
  std::shared_ptr<const Regex> pattern_;  // null: no expression
  std::string characters_[256];
};

class Metaspace final : public PreTokenizer {
 public:
  Metaspace(char32_t replacement, PrependScheme scheme, bool split)
      : replacement_(replacement), scheme_(scheme), split_(split) {
    AppendRune(replacement, &replacement_text_);
  }
  Status Apply(Words* words) const override {
    const auto rewrite = [this](std::string_view word, WordPlace place, std::string* out) {
      const bool has_one = word[0] == ' ' || word.substr(0, replacement_text_.size()) == replacement_text_;
      const bool wants_one = !place.continues && (scheme_ == PrependScheme::kAlways ||
                                                  (scheme_ == PrependScheme::kFirst && place.at_start));
      if (wants_one && !has_one) *out += replacement_text_;
      for (const char c : word) {
        if (c == ' ') {
          *out += replacement_text_;
        } else {
          *out += c;
        }
      }
    };
    RETURN_IF_ERROR(RewriteWords(words, rewrite));
    if (split_) {
      CutAtRunes(
          words, [this](char32_t rune) { return rune == replacement_; }, SplitBehavior::kMergedWithNext);
    }
    return absl::OkStatus();
  }
  std::string Describe() const override {
    return absl::StrCat("Metaspace(", static_cast<uint32_t>(replacement_), ",", static_cast<int>(scheme_),
                        ",", split_, ")");
  }

 private:
  char32_t replacement_;
  std::string replacement_text_;
  PrependScheme scheme_;
  bool split_;
};

class PreTokenizerSequence final : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(std::vector<PreTokenizerPtr> steps) : steps_(std::move(steps)) {}
  Status Apply(Words* words) const override {
    for (const PreTokenizerPtr& step : steps_) RETURN_IF_ERROR(step->Apply(words));
    return absl::OkStatus();
  }
  std::string Describe() const override {
    std::string out = "Sequence(";
    for (const PreTokenizerPtr& step : steps_) absl::StrAppend(&out, step->Describe(), ";");
    return out + ")";
  }

 private:
  std::vector<PreTokenizerPtr> steps_;
};

}  // namespace

PreTokenizerPtr MakeSplit(std::shared_ptr<const Regex> pattern, SplitBehavior behavior, bool invert) {
  return std::make_unique<SplitPreTokenizer>(std::move(pattern), behavior, invert);
}
PreTokenizerPtr MakeDigits(bool individual_digits) {
  return std::make_unique<RuneSplit>(
      "Digits", &IsNumeric, individual_digits ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
}
PreTokenizerPtr MakePunctuation(SplitBehavior behavior) {
  return std::make_unique<RuneSplit>("Punctuation", &IsPunctuation, behavior);
}
PreTokenizerPtr MakeWhitespaceSplit() {
  return std::make_unique<RuneSplit>("WhitespaceSplit", &IsWhitespace, SplitBehavior::kRemoved);
}
PreTokenizerPtr MakeWhitespace() { return std::make_unique<WhitespacePreTokenizer>(); }
PreTokenizerPtr MakeBertPreTokenizer() {
  std::vector<PreTokenizerPtr> steps;
  steps.push_back(MakeWhitespaceSplit());
  steps.push_back(MakePunctuation(SplitBehavior::kIsolated));
  return MakePreTokenizerSequence(std::move(steps));
}
StatusOr<PreTokenizerPtr> MakeByteLevel(bool add_prefix_space, bool use_regex) {
  std::shared_ptr<const Regex> pattern;
  if (use_regex) {
    ASSIGN_OR_RETURN(pattern, Regex::Create(kGpt2Pattern));
  }
  return std::make_unique<ByteLevel>(add_prefix_space, std::move(pattern));
}
PreTokenizerPtr MakeMetaspace(char32_t replacement, PrependScheme scheme, bool split) {
  return std::make_unique<Metaspace>(replacement, scheme, split);
}
PreTokenizerPtr MakePreTokenizerSequence(std::vector<PreTokenizerPtr> steps) {
  return std::make_unique<PreTokenizerSequence>(std::move(steps));
}

}  // namespace coterie::text
