#ifndef COTERIE_MODEL_CHAT_JINJA_TEXT_FUNCTIONS_H_
#define COTERIE_MODEL_CHAT_JINJA_TEXT_FUNCTIONS_H_

#include <vector>

#include "common/status.h"
#include "model/chat/jinja/limits.h"
#include "model/chat/jinja/text.h"

// What filters and methods of strings share. All keep the provenance of every byte.
namespace coterie::jinja {

Text ToUpper(const Text& text);
Text ToLower(const Text& text);
Text Capitalized(const Text& text);  // first character upper, the others lower
Text SwapCase(const Text& text);
Text CaseFolded(const Text& text);  // for comparisons without regard to case
Text TitleCase(const Text& text);   // str.title: upper behind every character without case

// Markup of the same meaning: &, <, >, ' and " as entities. Markup stays as it is.
Text Escaped(const Text& text);

// At most `count` replacements; negative: all. An empty `old` stands between all characters.
StatusOr<Text> Replace(const Text& text, const Text& old, const Text& with, int64_t count, Budget* budget);
StatusOr<Text> Join(const std::vector<Text>& parts, const Text& separator, Budget* budget);
// str.splitlines: at every line end that Unicode knows, \r\n being one.
std::vector<Text> SplitLines(const Text& text, bool keep_ends);
// str.center. ResourceExhausted for a width beyond the budget, before anything is made.
StatusOr<Text> Centered(const Text& text, int64_t width, const Text& fill, Budget* budget);
// `n` times `fill`.
StatusOr<Text> Repeated(const Text& fill, size_t n, Budget* budget);
// str.split and rsplit; at most `max_splits` (negative: no limit). An empty separator splits at runs of white
// space.
std::vector<Text> Split(const Text& text, std::string_view separator, int64_t max_splits, bool from_right);

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_TEXT_FUNCTIONS_H_
