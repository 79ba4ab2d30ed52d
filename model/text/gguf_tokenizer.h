#ifndef COTERIE_MODEL_TEXT_GGUF_TOKENIZER_H_
#define COTERIE_MODEL_TEXT_GGUF_TOKENIZER_H_

#include <memory>

#include "common/status.h"
#include "model/format/gguf.h"
#include "model/text/tokenizer.h"
#include "model/text/tokenizer_spec.h"

namespace coterie {

// The tokenizer.ggml.* keys of `file`. NotFound or InvalidArgument naming the key.
StatusOr<TokenizerSpec> ReadTokenizerSpec(const GgufFile& file);

// The tokenizer a GGUF file holds; it keeps nothing of the file. Errors are those of ReadTokenizerSpec and
// Tokenizer::Create, with the file's name before them.
StatusOr<std::shared_ptr<const Tokenizer>> LoadTokenizer(const GgufFile& file);

}  // namespace coterie

#endif  // COTERIE_MODEL_TEXT_GGUF_TOKENIZER_H_
