#ifndef COTERIE_MODEL_TEXT_BYTE_ALPHABET_H_
#define COTERIE_MODEL_TEXT_BYTE_ALPHABET_H_

#include <array>
#include <cstdint>
#include <optional>

namespace coterie::text {

// GPT-2's alphabet for byte-level BPE: each byte has a printable character. The bytes that are printable in
// Latin-1 stand for themselves, the others are numbered from U+0100 on (so a space is U+0120).
class ByteAlphabet {
 public:
  constexpr ByteAlphabet() {
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool is_printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
      const char32_t rune = is_printable ? static_cast<char32_t>(byte) : next++;
      runes_[static_cast<size_t>(byte)] = rune;
      bytes_[rune] = static_cast<int16_t>(byte);
    }
  }
  constexpr char32_t RuneOf(unsigned char byte) const { return runes_[byte]; }
  constexpr std::optional<unsigned char> ByteOf(char32_t rune) const {
    if (rune >= kRunes || bytes_[rune] < 0) return std::nullopt;
    return static_cast<unsigned char>(bytes_[rune]);
  }

 private:
  static constexpr size_t kRunes = 0x100 + 68;  // 68 bytes are not printable
  static constexpr std::array<int16_t, kRunes> Empty() {
    std::array<int16_t, kRunes> empty{};
    for (int16_t& byte : empty) byte = -1;
    return empty;
  }
  std::array<char32_t, 256> runes_{};
  std::array<int16_t, kRunes> bytes_ = Empty();
};

inline constexpr ByteAlphabet kByteAlphabet;

}  // namespace coterie::text

#endif  // COTERIE_MODEL_TEXT_BYTE_ALPHABET_H_
