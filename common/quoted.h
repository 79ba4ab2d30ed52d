#ifndef COTERIE_COMMON_QUOTED_H_
#define COTERIE_COMMON_QUOTED_H_

#include <cstddef>
#include <string>
#include <string_view>

// Text that is not ours (out of a file, a request or another process) within a message of ours: a refusal, a
// warning, a line of a log. Pure and thread-safe.
namespace coterie {

// Longer than any tensor's or expert's name; a message with three of them still fits gRPC's 8 KiB of trailers
// when every byte is escaped.
inline constexpr size_t kMaxQuotedBytes = 120;

// `text` in double quotes, for people to read: well-formed UTF-8 on one line, whatever it holds. Control
// characters, characters that steer a terminal or hide (U+202E, U+200B, ...) and bytes that are no UTF-8 are
// escaped, as are quotes and backslashes ("\n", "\x1b", "\u202e"). Beyond `max_bytes` an ellipsis stands for
// the rest, inside the quotes.
std::string Quoted(std::string_view text, size_t max_bytes = kMaxQuotedBytes);

// The same without quotes, and none escaped, for text with quotation marks of its own or none.
std::string Shown(std::string_view text, size_t max_bytes = kMaxQuotedBytes);

}  // namespace coterie

#endif  // COTERIE_COMMON_QUOTED_H_
