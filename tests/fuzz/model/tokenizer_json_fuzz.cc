#include <cstdint>
#include <string_view>

#include "common/check.h"
#include "model/text/continuation.h"
#include "model/text/incremental_detokenizer.h"
#include "model/text/unicode.h"

// Whatever tokenizer.json says, it is refused or gives a tokenizer whose ids lie in its vocabulary and whose
// text is UTF-8, streamed or not.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n_bytes) {
  using namespace coterie;
  const std::string_view json(reinterpret_cast<const char*>(data), n_bytes);
  const StatusOr<std::shared_ptr<const Tokenizer>> tokenizer = Tokenizer::FromJson(json, "");
  if (!tokenizer.ok()) return 0;
  for (const std::string_view text :
       {"Hello, World! it's 123\n\n", "a\xCC\x81 \xE4\xBD\xA0 \xF0\x9F\x99\x82 <s>", "  "}) {
    const StatusOr<std::vector<int32_t>> ids =
        (*tokenizer)
            ->Encode(text,
                     {.parse_special = true, .add_special = true, .max_tokens = 4096, .truncate = true});
    if (!ids.ok()) continue;
    IncrementalDetokenizer detokenizer(*tokenizer);
    for (const int32_t id : *ids) {
      COTERIE_CHECK(id >= 0 && static_cast<size_t>(id) < (*tokenizer)->vocab_size());
      COTERIE_CHECK(text::IsWellFormed(detokenizer.Append(id)));
    }
    COTERIE_CHECK(text::IsWellFormed(detokenizer.Flush()));
    COTERIE_CHECK(text::IsWellFormed((*tokenizer)->Decode(*ids)));
    // Whatever it makes of a text that goes on is text, and of this vocabulary.
    const TextPiece prompt{text, false};
    const StatusOr<std::vector<int32_t>> more = EncodeContinuation(
        *tokenizer, {std::span(&prompt, 1), /*add_special=*/true, *ids}, " it goes on", 4096);
    if (!more.ok()) continue;
    for (const int32_t id : *more)
      COTERIE_CHECK(id >= 0 && static_cast<size_t>(id) < (*tokenizer)->vocab_size());
    COTERIE_CHECK(text::IsWellFormed(DecodeContinuation(*tokenizer, *ids, *more)));
  }
  return 0;
}
