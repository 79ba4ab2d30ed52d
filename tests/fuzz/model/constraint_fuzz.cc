// A constraint of any kind, hostile: its first byte says which. Nothing may crash, hang or take much; what is
// served compiles, and a text that it allows begins.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_split.h"
#include "common/check.h"
#include "kernels/batch.h"
#include "model/grammar/grammar_matchers.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n_bytes) {
  using coterie::Constraint;
  static coterie::GrammarMatchers* const matchers = [] {
    std::vector<std::string> tokens = {""};
    for (int byte = 0; byte < 256; ++byte) tokens.push_back(std::string(1, static_cast<char>(byte)));
    return coterie::GrammarMatchers::Create(tokens, {0}).value().release();
  }();
  if (n_bytes == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, n_bytes - 1);
  Constraint constraint;
  switch (data[0] % 3) {
    case 0:
      constraint = {Constraint::Kind::kJsonSchema, text, {}};
      break;
    case 1:
      constraint = {Constraint::Kind::kRegex, text, {}};
      break;
    default:
      constraint = {Constraint::Kind::kChoice, "", absl::StrSplit(text, '\n')};
  }
  const auto matcher = matchers->Make(constraint);
  if (!matcher.ok()) {
    COTERIE_CHECK(matcher.status().code() == absl::StatusCode::kInvalidArgument) << matcher.status();
    COTERIE_CHECK_LT(matcher.status().message().size(), 2000u);
    return 0;
  }
  // The lowest token each time: a text that may be without end.
  std::vector<uint32_t> mask(static_cast<size_t>(coterie::MaskWords(257)));
  for (int i = 0; i < 20; ++i) {
    if ((*matcher)->Fill(mask) != coterie::NextTokens::kSome) {
      COTERIE_CHECK_GT(i, 0) << "nothing may begin";
      break;
    }
    int32_t token = 0;
    while (!coterie::MaskAllows(mask, static_cast<size_t>(token))) ++token;
    COTERIE_CHECK((*matcher)->Accept(token)) << "a token that the mask allows is refused: " << token;
    if (token == 0) break;
  }
  return 0;
}
