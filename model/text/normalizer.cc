#include "model/text/normalizer.h"

#include <utility>

#include "absl/strings/escaping.h"

namespace coterie::text {
namespace {

Status TooLong() {
  return absl::ResourceExhaustedError(
      absl::StrCat("a normalised text has more than ", kMaxRewrittenBytes, " bytes, the limit"));
}

// Keeps the characters for which `keep` holds.
template <typename Keep>
void Filter(NormalizedText* text, Keep keep) {
  std::string kept;
  kept.reserve(text->text.size());
  for (size_t pos = 0; pos < text->text.size();) {
    const size_t begin = pos;
    const char32_t rune = NextRune(text->text, &pos);
    if (keep(rune)) {
      kept.append(text->text, begin, pos - begin);
    } else if (begin == 0) {
      text->LoseFirstCharacter();
    }
  }
  text->text = std::move(kept);
}

void Lower(std::string* text) {
  std::string lowered;
  lowered.reserve(text->size());
  for (size_t pos = 0; pos < text->size();) AppendLower(NextRune(*text, &pos), &lowered);
  *text = std::move(lowered);
}

class UnicodeNormalizer final : public Normalizer {
 public:
  explicit UnicodeNormalizer(NormalForm form) : form_(form) {}
  Status Apply(NormalizedText* text) const override {
    ASSIGN_OR_RETURN(text->text, Normalize(text->text, form_));
    if (text->text.size() > kMaxRewrittenBytes) return TooLong();
    return absl::OkStatus();
  }
  std::string Describe() const override {
    constexpr const char* kNames[] = {"NFC", "NFD", "NFKC", "NFKD"};
    return kNames[static_cast<int>(form_)];
  }

 private:
  NormalForm form_;
};

class Lowercase final : public Normalizer {
 public:
  Status Apply(NormalizedText* text) const override {
    Lower(&text->text);
    return absl::OkStatus();
  }
  std::string Describe() const override { return "Lowercase"; }
};

class StripAccents final : public Normalizer {
 public:
  Status Apply(NormalizedText* text) const override {
    Filter(text, [](char32_t rune) { return !IsMark(rune); });
    return absl::OkStatus();
  }
  std::string Describe() const override { return "StripAccents"; }
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  Status Apply(NormalizedText* text) const override {
    size_t begin = 0;
    size_t end = text->text.size();
    while (left_ && begin < end) {
      size_t next = begin;
      if (!IsWhitespace(NextRune(text->text, &next))) break;
      begin = next;
    }
    while (right_ && end > begin) {
      size_t previous = end;
      if (!IsWhitespace(PreviousRune(text->text, &previous))) break;
      end = previous;
    }
    if (begin > 0) text->LoseFirstCharacter();
    text->text = text->text.substr(begin, end - begin);
    return absl::OkStatus();
  }
  std::string Describe() const override { return absl::StrCat("Strip(", left_, ",", right_, ")"); }

 private:
  bool left_, right_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  Status Apply(NormalizedText* text) const override {
    if (!text->text.empty() && !text->continues) text->text.insert(0, prefix_);
    if (text->text.size() > kMaxRewrittenBytes) return TooLong();
    return absl::OkStatus();
  }
  std::string Describe() const override { return absl::StrCat("Prepend(", absl::CHexEscape(prefix_), ")"); }

 private:
  std::string prefix_;
};

class Replace final : public Normalizer {
 public:
  Replace(std::shared_ptr<const Regex> pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  Status Apply(NormalizedText* text) const override {
    std::vector<Match> matches;
    RETURN_IF_ERROR(pattern_->Find(text->text, 0, text->text.size(), &matches));
    std::string replaced;
    replaced.reserve(text->text.size());
    for (const Match& match : matches) {
      if (match.is_match) {
        replaced += content_;
      } else {
        replaced.append(text->text, match.begin, match.end - match.begin);
      }
      if (replaced.size() > kMaxRewrittenBytes) return TooLong();
    }
    if (!matches.empty() && matches[0].is_match && content_.empty()) text->LoseFirstCharacter();
    text->text = std::move(replaced);
    return absl::OkStatus();
  }
  std::string Describe() const override {
    return absl::StrCat("Replace(", absl::CHexEscape(pattern_->pattern()), ",", absl::CHexEscape(content_),
                        ")");
  }

 private:
  std::shared_ptr<const Regex> pattern_;
  std::string content_;
};

class NormalizerSequence final : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<NormalizerPtr> steps) : steps_(std::move(steps)) {}
  Status Apply(NormalizedText* text) const override {
    for (const NormalizerPtr& step : steps_) RETURN_IF_ERROR(step->Apply(text));
    return absl::OkStatus();
  }
  std::string Describe() const override {
    std::string out = "Sequence(";
    for (const NormalizerPtr& step : steps_) absl::StrAppend(&out, step->Describe(), ";");
    return out + ")";
  }

 private:
  std::vector<NormalizerPtr> steps_;
};

// The blocks BERT's own tokenizer takes for Chinese: CJK ideographs, not kana nor hangul. (The gap from
// U+2B820 to U+2B91F, extension E's beginning, is the reference's.)
bool IsChinese(char32_t rune) {
  return (rune >= 0x4E00 && rune <= 0x9FFF) || (rune >= 0x3400 && rune <= 0x4DBF) ||
         (rune >= 0x20000 && rune <= 0x2A6DF) || (rune >= 0x2A700 && rune <= 0x2B73F) ||
         (rune >= 0x2B740 && rune <= 0x2B81F) || (rune >= 0x2B920 && rune <= 0x2CEAF) ||
         (rune >= 0xF900 && rune <= 0xFAFF) || (rune >= 0x2F800 && rune <= 0x2FA1F);
}

class BertNormalizer final : public Normalizer {
 public:
  explicit BertNormalizer(const BertNormalizerOptions& options) : options_(options) {}

  Status Apply(NormalizedText* text) const override {
    if (options_.clean_text) CleanText(text);
    if (options_.handle_chinese_chars) SpaceOutChinese(&text->text);
    if (options_.strip_accents.value_or(options_.lowercase)) {
      ASSIGN_OR_RETURN(text->text, Normalize(text->text, NormalForm::kD));
      Filter(text, [](char32_t rune) { return !IsNonspacingMark(rune); });
    }
    if (options_.lowercase) Lower(&text->text);
    return absl::OkStatus();
  }
  std::string Describe() const override {
    return absl::StrCat("BertNormalizer(", options_.clean_text, ",", options_.handle_chinese_chars, ",",
                        options_.strip_accents.value_or(options_.lowercase), ",", options_.lowercase, ")");
  }

 private:
  static void CleanText(NormalizedText* text) {
    std::string cleaned;
    cleaned.reserve(text->text.size());
    for (size_t pos = 0; pos < text->text.size();) {
      const size_t begin = pos;
      const char32_t rune = NextRune(text->text, &pos);
      const bool is_blank = rune == '\t' || rune == '\n' || rune == '\r' || IsWhitespace(rune);
      const bool is_control = IsOther(rune) && rune != '\t' && rune != '\n' && rune != '\r';
      if (rune == 0xFFFD || is_control) {
        if (begin == 0) text->LoseFirstCharacter();
      } else if (is_blank) {
        cleaned += ' ';
      } else {
        cleaned.append(text->text, begin, pos - begin);
      }
    }
    text->text = std::move(cleaned);
  }

  static void SpaceOutChinese(std::string* text) {
    std::string spaced;
    spaced.reserve(text->size());
    for (size_t pos = 0; pos < text->size();) {
      const size_t begin = pos;
      const bool is_chinese = IsChinese(NextRune(*text, &pos));
      if (is_chinese) spaced += ' ';
      spaced.append(*text, begin, pos - begin);
      if (is_chinese) spaced += ' ';
    }
    *text = std::move(spaced);
  }

  BertNormalizerOptions options_;
};

}  // namespace

NormalizerPtr MakeUnicodeNormalizer(NormalForm form) { return std::make_unique<UnicodeNormalizer>(form); }
NormalizerPtr MakeLowercase() { return std::make_unique<Lowercase>(); }
NormalizerPtr MakeStripAccents() { return std::make_unique<StripAccents>(); }
NormalizerPtr MakeStrip(bool left, bool right) { return std::make_unique<Strip>(left, right); }
NormalizerPtr MakePrepend(std::string prefix) { return std::make_unique<Prepend>(std::move(prefix)); }
NormalizerPtr MakeReplace(std::shared_ptr<const Regex> pattern, std::string content) {
  return std::make_unique<Replace>(std::move(pattern), std::move(content));
}
NormalizerPtr MakeNormalizerSequence(std::vector<NormalizerPtr> steps) {
  return std::make_unique<NormalizerSequence>(std::move(steps));
}
NormalizerPtr MakeBertNormalizer(const BertNormalizerOptions& options) {
  return std::make_unique<BertNormalizer>(options);
}

}  // namespace coterie::text
