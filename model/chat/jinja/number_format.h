#ifndef COTERIE_MODEL_CHAT_JINJA_NUMBER_FORMAT_H_
#define COTERIE_MODEL_CHAT_JINJA_NUMBER_FORMAT_H_

#include <string>
#include <string_view>

#include "common/status.h"
#include "model/chat/jinja/text.h"
#include "model/chat/jinja/value.h"

namespace coterie::jinja {

// The format of a value as Python's format() takes it:
// "[[fill]align][sign][#][0][width][,_][.precision][type]".
struct FormatSpec {
  std::string fill = " ";  // one character
  char align = 0;          // '<', '>', '^', '=' (between sign and digits); 0: the value's own side
  char sign = '-';         // '+', ' ', '-'
  bool alternate = false;
  char grouping = 0;  // ',' or '_'
  size_t width = 0;
  int precision = -1;  // -1: none given
  char type = 0;       // 0: none given

  bool plain = true;    // nothing was given
  bool trusted = true;  // who wrote it: the fill is theirs

  static StatusOr<FormatSpec> Parse(std::string_view text);
};

inline constexpr size_t kMaxFormatWidth = 1 << 20;
inline constexpr size_t kMaxFormatPrecision = 400;

// Digits of a number in the format of `spec.type`, without sign, width and fill. InvalidArgument for a type
// that does not go with it.
StatusOr<std::string> Digits(const Value& number, const FormatSpec& spec);
// The whole: sign, digits, grouping, fill.
StatusOr<std::string> FormatNumber(const Value& number, const FormatSpec& spec);
// `text` filled up to the width of `spec`; `side` where it names no alignment.
StatusOr<Text> Fill(const Text& text, const FormatSpec& spec, char side, Budget* budget);

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_NUMBER_FORMAT_H_
