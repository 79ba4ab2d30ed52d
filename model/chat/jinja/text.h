#ifndef COTERIE_MODEL_CHAT_JINJA_TEXT_H_
#define COTERIE_MODEL_CHAT_JINJA_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace coterie::jinja {

// UTF-8 text that remembers, byte by byte, who wrote it: the template (trusted) or the caller (untrusted).
// The tokenizer may see special tokens in trusted bytes only, so a user who types "<|im_end|>" has typed
// text. One mark per byte is exact under every slice, strip, replace and join, and costs no more than the
// text itself.
//
// Markup (what `safe` and `escape` give) is text too, and stays markup under every method of a string. Other
// text that `+`, `%` or a method joins to it is escaped, as in Python's markupsafe.
class Text {
 public:
  Text() = default;
  static Text Trusted(std::string_view s) { return Text(s, false); }
  static Text Untrusted(std::string_view s) { return Text(s, true); }

  std::string_view bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  bool trusted(size_t i) const { return untrusted_[i] == 0; }
  // Whether all bytes are trusted; true for an empty text.
  bool trusted() const { return untrusted_.find('\1') == std::string::npos; }
  bool markup() const { return markup_; }
  // The same text as markup, or as none.
  Text WithMarkup(bool markup) const {
    Text same = *this;
    same.markup_ = markup;
    return same;
  }
  void set_markup(bool markup) { markup_ = markup; }

  // Appending does not change whether this is markup.
  void Append(const Text& other) {
    bytes_ += other.bytes_;
    untrusted_ += other.untrusted_;
  }
  // Bytes [begin, end) of `other`.
  void Append(const Text& other, size_t begin, size_t end) {
    bytes_.append(other.bytes_, begin, end - begin);
    untrusted_.append(other.untrusted_, begin, end - begin);
  }
  void Append(std::string_view s, bool trusted) {
    bytes_ += s;
    untrusted_.append(s.size(), trusted ? 0 : 1);
  }
  void AppendTrusted(std::string_view s) { Append(s, true); }
  // Bytes [begin, end); of markup: markup.
  Text Slice(size_t begin, size_t end) const {
    Text slice;
    slice.markup_ = markup_;
    slice.Append(*this, begin, end);
    return slice;
  }
  void Reserve(size_t n) {
    bytes_.reserve(n);
    untrusted_.reserve(n);
  }

 private:
  Text(std::string_view s, bool untrusted) : bytes_(s), untrusted_(s.size(), untrusted ? 1 : 0) {}

  std::string bytes_;
  std::string untrusted_;  // one byte, 0 or 1, for each of bytes_
  bool markup_ = false;
};

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_TEXT_H_
