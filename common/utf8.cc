#include "common/utf8.h"

namespace coterie {

Utf8Step StepUtf8(std::string_view bytes) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = at(0);
  if (lead < 0x80) return {Utf8Step::kCharacter, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8Step::kIllFormed, 1};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and values beyond U+10FFFF (Unicode table
  // 3-7).
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {Utf8Step::kIncomplete, i};
    const bool fits = i == 1 ? at(i) >= low && at(i) <= high : (at(i) & 0xC0) == 0x80;
    if (!fits) return {Utf8Step::kIllFormed, i};
  }
  return {Utf8Step::kCharacter, length};
}

bool IsWellFormed(std::string_view bytes) {
  while (!bytes.empty()) {
    const Utf8Step step = StepUtf8(bytes);
    if (step.kind != Utf8Step::kCharacter) return false;
    bytes.remove_prefix(step.n_bytes);
  }
  return true;
}

std::string ReplaceIllFormed(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const Utf8Step step = StepUtf8(bytes);
    out.append(step.kind == Utf8Step::kCharacter ? bytes.substr(0, step.n_bytes) : kReplacement);
    bytes.remove_prefix(step.n_bytes);
  }
  return out;
}

std::string_view CutUtf8(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  size_t n = max_bytes;
  // At most three bytes back: in text that is not UTF-8 there may be no beginning at all.
  for (int i = 0; i < 3 && n > 0 && (static_cast<unsigned char>(text[n]) & 0xC0) == 0x80; ++i) --n;
  return text.substr(0, n);
}

std::string Printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = StepUtf8(text);
    const std::string_view part = text.substr(0, step.n_bytes);
    const auto first = static_cast<unsigned char>(part[0]);
    const bool c0 = (first < 0x20 && first != '\n' && first != '\t') || first == 0x7F;
    const bool c1 = first == 0xC2 && part.size() == 2 && static_cast<unsigned char>(part[1]) < 0xA0;
    out.append(step.kind == Utf8Step::kCharacter && !c0 && !c1 ? part : kReplacement);
    text.remove_prefix(step.n_bytes);
  }
  return out;
}

}  // namespace coterie
