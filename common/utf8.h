#ifndef COTERIE_COMMON_UTF8_H_
#define COTERIE_COMMON_UTF8_H_

#include <cstddef>
#include <string>
#include <string_view>

// Well-formed UTF-8 out of arbitrary bytes. All functions are pure and thread-safe.
namespace coterie {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// How `bytes` begins, for arbitrary bytes (never empty).
struct Utf8Step {
  enum Kind {
    kCharacter,   // a whole character of n_bytes
    kIllFormed,   // a maximal ill-formed part of n_bytes (Unicode 3.9, "U+FFFD substitution of maximal
                  // subparts")
    kIncomplete,  // all n_bytes left are the proper beginning of some character
  } kind;
  size_t n_bytes;
};
Utf8Step StepUtf8(std::string_view bytes);

// Each maximal ill-formed part becomes one U+FFFD, as in Python's decode(errors="replace").
std::string ReplaceIllFormed(std::string_view bytes);
bool IsWellFormed(std::string_view bytes);

// The beginning of `text`, at most `max_bytes` long, that ends between two characters.
std::string_view CutUtf8(std::string_view text, size_t max_bytes);

// `text` fit for a message, a log or a terminal: ill-formed parts and control characters other than line ends
// and tabs are shown as U+FFFD. Text of a file, a model or a client is not to be trusted.
std::string Printable(std::string_view text);

}  // namespace coterie

#endif  // COTERIE_COMMON_UTF8_H_
