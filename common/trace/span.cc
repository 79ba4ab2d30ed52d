#include "common/trace/span.h"

#include "common/utf8.h"

namespace coterie {

// Receivers refuse a whole request for one text that is not UTF-8.
SpanAttribute::SpanAttribute(const char* key, std::string_view text)
    : key(key), value(Printable(CutUtf8(text, kMaxBytes))) {}

}  // namespace coterie
