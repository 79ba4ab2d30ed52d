#ifndef COTERIE_MODEL_TEXT_UNICODE_TABLES_H_
#define COTERIE_MODEL_TEXT_UNICODE_TABLES_H_

#include <cstdint>
#include <span>
#include <string_view>

// Sets of code points as the reference tokenizers class them (make_unicode_tables.py); ranges ascend.
namespace coterie::text {

struct RuneRange {
  char32_t first;
  char32_t last;
};
struct CaseRange {
  char32_t first;
  char32_t last;
  int32_t delta;  // to the lower case
};
struct NewCategory {
  std::string_view category;  // a general category of two letters
  std::span<const RuneRange> ranges;
};

std::span<const RuneRange> NumericRanges();
std::span<const RuneRange> PunctuationRanges();
std::span<const RuneRange> WordRanges();
std::span<const RuneRange> OtherRanges();
std::span<const RuneRange> NonspacingMarkRanges();
std::span<const RuneRange> MarkRanges();
// Left alone by normalisation, though newer Unicode normalises them.
std::span<const RuneRange> FixedRanges();
// What Unicode 14 does not know yet.
std::span<const CaseRange> NewLowercase();
std::span<const NewCategory> NewCategories();

}  // namespace coterie::text

#endif  // COTERIE_MODEL_TEXT_UNICODE_TABLES_H_
