#include "model/text/json_components.h"

#include <utility>

#include "common/quoted.h"
#include "model/text/unicode.h"

namespace coterie::text {
namespace {

// Sequences of sequences deeper than this have no use; real files have one level.
constexpr int kMaxDepth = 8;
constexpr size_t kMaxSteps = 256;

Status CheckDepth(int depth) {
  if (depth < kMaxDepth) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("sequences within sequences beyond a depth of ", kMaxDepth));
}

// {"String": "x"} or {"Regex": "x"}.
StatusOr<std::shared_ptr<const Regex>> ParsePattern(const Fields& fields) {
  const Json* pattern = fields.Find("pattern");
  if (pattern == nullptr || !pattern->is_object() || pattern->size() != 1 ||
      !pattern->begin().value().is_string()) {
    return fields.Bad("pattern", "an object with one string, \"String\" or \"Regex\"");
  }
  const auto& text = pattern->begin().value().get_ref<const std::string&>();
  if (pattern->begin().key() == "String") return Regex::CreateLiteral(text);
  if (pattern->begin().key() == "Regex") return Regex::Create(text);
  return fields.Bad("pattern", "\"String\" or \"Regex\"");
}

StatusOr<SplitBehavior> ParseBehavior(const Fields& fields) {
  ASSIGN_OR_RETURN(const std::string behavior, fields.String("behavior"));
  if (behavior == "Removed") return SplitBehavior::kRemoved;
  if (behavior == "Isolated") return SplitBehavior::kIsolated;
  if (behavior == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (behavior == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (behavior == "Contiguous") return SplitBehavior::kContiguous;
  return fields.Bad("behavior", "a known split behavior");
}

StatusOr<PrependScheme> ParsePrependScheme(const Fields& fields) {
  std::string scheme = "always";
  if (fields.Find("prepend_scheme") != nullptr) {
    ASSIGN_OR_RETURN(scheme, fields.String("prepend_scheme"));
  }
  ASSIGN_OR_RETURN(const bool add_prefix_space, fields.BoolOr("add_prefix_space", true));
  if (!add_prefix_space && scheme != "never") {
    return fields.Bad("add_prefix_space", "true unless prepend_scheme is \"never\"");
  }
  if (scheme == "always") return PrependScheme::kAlways;
  if (scheme == "first") return PrependScheme::kFirst;
  if (scheme == "never") return PrependScheme::kNever;
  return fields.Bad("prepend_scheme", "\"always\", \"first\" or \"never\"");
}

StatusOr<const Json*> ParseSteps(const Fields& fields, const char* name) {
  ASSIGN_OR_RETURN(const Json* steps, fields.Array(name));
  if (steps->size() > kMaxSteps) return fields.Bad(name, absl::StrCat("at most ", kMaxSteps, " steps"));
  return steps;
}

StatusOr<NormalizerPtr> ParseBertNormalizer(const Fields& fields) {
  BertNormalizerOptions options;
  ASSIGN_OR_RETURN(options.clean_text, fields.Bool("clean_text"));
  ASSIGN_OR_RETURN(options.handle_chinese_chars, fields.Bool("handle_chinese_chars"));
  ASSIGN_OR_RETURN(options.lowercase, fields.Bool("lowercase"));
  if (fields.Find("strip_accents") != nullptr) {
    ASSIGN_OR_RETURN(options.strip_accents, fields.Bool("strip_accents"));
  }
  return MakeBertNormalizer(options);
}

StatusOr<NormalizerPtr> ParseNormalizerAt(const Json& json, int depth) {
  if (json.is_null()) return NormalizerPtr();
  RETURN_IF_ERROR(CheckDepth(depth));
  ASSIGN_OR_RETURN(const Fields fields, Fields::Of(json, "normalizer"));
  const std::string& type = fields.type();
  if (type == "NFC") return MakeUnicodeNormalizer(NormalForm::kC);
  if (type == "NFD") return MakeUnicodeNormalizer(NormalForm::kD);
  if (type == "NFKC") return MakeUnicodeNormalizer(NormalForm::kKc);
  if (type == "NFKD") return MakeUnicodeNormalizer(NormalForm::kKd);
  if (type == "Lowercase") return MakeLowercase();
  if (type == "StripAccents") return MakeStripAccents();
  if (type == "BertNormalizer") return ParseBertNormalizer(fields);
  if (type == "Strip") {
    ASSIGN_OR_RETURN(const bool left, fields.Bool("strip_left"));
    ASSIGN_OR_RETURN(const bool right, fields.Bool("strip_right"));
    return MakeStrip(left, right);
  }
  if (type == "Prepend") {
    ASSIGN_OR_RETURN(std::string prefix, fields.String("prepend"));
    return MakePrepend(std::move(prefix));
  }
  if (type == "Replace") {
    ASSIGN_OR_RETURN(std::shared_ptr<const Regex> pattern, ParsePattern(fields));
    ASSIGN_OR_RETURN(std::string content, fields.String("content"));
    return MakeReplace(std::move(pattern), std::move(content));
  }
  if (type == "Sequence") {
    ASSIGN_OR_RETURN(const Json* steps, ParseSteps(fields, "normalizers"));
    std::vector<NormalizerPtr> parsed;
    for (const Json& step : *steps) {
      ASSIGN_OR_RETURN(NormalizerPtr one, ParseNormalizerAt(step, depth + 1));
      if (one != nullptr) parsed.push_back(std::move(one));
    }
    return MakeNormalizerSequence(std::move(parsed));
  }
  return fields.Unknown();
}

StatusOr<PreTokenizerPtr> ParsePreTokenizerAt(const Json& json, int depth) {
  if (json.is_null()) return PreTokenizerPtr();
  RETURN_IF_ERROR(CheckDepth(depth));
  ASSIGN_OR_RETURN(const Fields fields, Fields::Of(json, "pre_tokenizer"));
  const std::string& type = fields.type();
  if (type == "Whitespace") return MakeWhitespace();
  if (type == "WhitespaceSplit") return MakeWhitespaceSplit();
  if (type == "BertPreTokenizer") return MakeBertPreTokenizer();
  if (type == "ByteLevel") {
    ASSIGN_OR_RETURN(const bool add_prefix_space, fields.Bool("add_prefix_space"));
    ASSIGN_OR_RETURN(const bool use_regex, fields.BoolOr("use_regex", true));
    return MakeByteLevel(add_prefix_space, use_regex);
  }
  if (type == "Digits") {
    ASSIGN_OR_RETURN(const bool individual, fields.Bool("individual_digits"));
    return MakeDigits(individual);
  }
  if (type == "Punctuation") {
    SplitBehavior behavior = SplitBehavior::kIsolated;
    if (fields.Find("behavior") != nullptr) {
      ASSIGN_OR_RETURN(behavior, ParseBehavior(fields));
    }
    return MakePunctuation(behavior);
  }
  if (type == "Split") {
    ASSIGN_OR_RETURN(std::shared_ptr<const Regex> pattern, ParsePattern(fields));
    ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseBehavior(fields));
    ASSIGN_OR_RETURN(const bool invert, fields.Bool("invert"));
    return MakeSplit(std::move(pattern), behavior, invert);
  }
  if (type == "Metaspace") {
    ASSIGN_OR_RETURN(const char32_t replacement, fields.Rune("replacement"));
    ASSIGN_OR_RETURN(const PrependScheme scheme, ParsePrependScheme(fields));
    ASSIGN_OR_RETURN(const bool split, fields.BoolOr("split", true));
    return MakeMetaspace(replacement, scheme, split);
  }
  if (type == "Sequence") {
    ASSIGN_OR_RETURN(const Json* steps, ParseSteps(fields, "pretokenizers"));
    std::vector<PreTokenizerPtr> parsed;
    for (const Json& step : *steps) {
      ASSIGN_OR_RETURN(PreTokenizerPtr one, ParsePreTokenizerAt(step, depth + 1));
      if (one != nullptr) parsed.push_back(std::move(one));
    }
    return MakePreTokenizerSequence(std::move(parsed));
  }
  return fields.Unknown();
}

Status ParseDecoderAt(const Json& json, int depth, std::vector<DecoderStep>* steps) {
  RETURN_IF_ERROR(CheckDepth(depth));
  ASSIGN_OR_RETURN(const Fields fields, Fields::Of(json, "decoder"));
  const std::string& type = fields.type();
  if (type == "ByteLevel") {
    steps->push_back(ByteLevelStep{});
  } else if (type == "ByteFallback") {
    steps->push_back(ByteFallbackStep{});
  } else if (type == "Fuse") {
    steps->push_back(FuseStep{});
  } else if (type == "Replace") {
    ReplaceStep step;
    ASSIGN_OR_RETURN(step.pattern, ParsePattern(fields));
    ASSIGN_OR_RETURN(step.content, fields.String("content"));
    steps->push_back(std::move(step));
  } else if (type == "Strip") {
    StripStep step;
    ASSIGN_OR_RETURN(step.content, fields.Rune("content"));
    ASSIGN_OR_RETURN(step.start, fields.Size("start"));
    ASSIGN_OR_RETURN(step.stop, fields.Size("stop"));
    steps->push_back(step);
  } else if (type == "WordPiece") {
    WordPieceStep step;
    ASSIGN_OR_RETURN(step.prefix, fields.String("prefix"));
    ASSIGN_OR_RETURN(step.cleanup, fields.Bool("cleanup"));
    steps->push_back(std::move(step));
  } else if (type == "Metaspace") {
    MetaspaceStep step;
    ASSIGN_OR_RETURN(step.replacement, fields.Rune("replacement"));
    ASSIGN_OR_RETURN(const PrependScheme scheme, ParsePrependScheme(fields));
    step.drop_first = scheme != PrependScheme::kNever;
    steps->push_back(step);
  } else if (type == "Sequence") {
    ASSIGN_OR_RETURN(const Json* inner, ParseSteps(fields, "decoders"));
    for (const Json& one : *inner) RETURN_IF_ERROR(ParseDecoderAt(one, depth + 1, steps));
  } else {
    return fields.Unknown();
  }
  if (steps->size() > kMaxSteps) return fields.Bad("decoders", absl::StrCat("at most ", kMaxSteps, " steps"));
  return absl::OkStatus();
}

}  // namespace

StatusOr<Fields> Fields::Of(const Json& json, std::string_view what) {
  if (!json.is_object()) return absl::InvalidArgumentError(absl::StrCat(ToAbsl(what), " is not an object"));
  Fields fields(&json, std::string(what));
  ASSIGN_OR_RETURN(fields.type_, fields.String("type"));
  absl::StrAppend(&fields.what_, " ", Shown(fields.type_));
  return fields;
}

Status Fields::Bad(std::string_view name, std::string_view want) const {
  return absl::InvalidArgumentError(absl::StrCat(what_, ": \"", ToAbsl(name), "\" must be ", ToAbsl(want)));
}

Status Fields::Unknown() const { return absl::UnimplementedError(absl::StrCat(what_, " is not supported")); }

const Json* Fields::Find(const char* name) const {
  const auto it = json_->find(name);
  return it == json_->end() || it->is_null() ? nullptr : &*it;
}

StatusOr<bool> Fields::Bool(const char* name) const {
  const Json* value = Find(name);
  if (value == nullptr || !value->is_boolean()) return Bad(name, "true or false");
  return value->get<bool>();
}

StatusOr<bool> Fields::BoolOr(const char* name, bool otherwise) const {
  if (Find(name) == nullptr) return otherwise;
  return Bool(name);
}

StatusOr<std::string> Fields::String(const char* name) const {
  const Json* value = Find(name);
  if (value == nullptr || !value->is_string()) return Bad(name, "a string");
  return value->get<std::string>();
}

StatusOr<size_t> Fields::Size(const char* name) const {
  const Json* value = Find(name);
  if (value == nullptr || !value->is_number_unsigned() || value->get<uint64_t>() > (uint64_t{1} << 31)) {
    return Bad(name, "a number from 0 to 2147483648");
  }
  return value->get<size_t>();
}

StatusOr<char32_t> Fields::Rune(const char* name) const {
  const Json* value = Find(name);
  if (value != nullptr && value->is_string()) {
    const std::string_view text = value->get_ref<const std::string&>();
    if (!text.empty() && StepUtf8(text).n_bytes == text.size()) {
      size_t pos = 0;
      return NextRune(text, &pos);
    }
  }
  return Bad(name, "one character");
}

StatusOr<const Json*> Fields::Array(const char* name) const {
  const Json* value = Find(name);
  if (value == nullptr || !value->is_array()) return Bad(name, "an array");
  return value;
}

StatusOr<NormalizerPtr> ParseNormalizer(const Json& json) { return ParseNormalizerAt(json, 0); }
StatusOr<PreTokenizerPtr> ParsePreTokenizer(const Json& json) { return ParsePreTokenizerAt(json, 0); }

StatusOr<std::vector<DecoderStep>> ParseDecoder(const Json& json) {
  std::vector<DecoderStep> steps;
  if (json.is_null()) {
    steps.push_back(JoinStep{});
    return steps;
  }
  RETURN_IF_ERROR(ParseDecoderAt(json, 0, &steps));
  return steps;
}

}  // namespace coterie::text
