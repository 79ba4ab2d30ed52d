#ifndef COTERIE_GATEWAY_TEXT_TEXT_MODEL_H_
#define COTERIE_GATEWAY_TEXT_TEXT_MODEL_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "common/status.h"
#include "gateway/text/text_input.h"
#include "model/format/model_files.h"
#include "model/text/end_tokens.h"

namespace coterie::gateway {

// Token ids to text as they come, whole characters at a time. One per answer; not thread-safe.
class TextStream {
 public:
  virtual ~TextStream() = default;
  virtual std::string Append(int32_t id) = 0;
  virtual std::string Flush() = 0;  // at the end
  // The bytes that `id` adds if it comes next, perhaps a part of a character; those of all tokens, each asked
  // for before its Append, are the bytes of the text. A control token adds none.
  virtual std::string BytesOf(int32_t id) const = 0;
};

// All that is textual about the base model: workers see token ids only. Immutable; thread-safe.
class TextModel {
 public:
  virtual ~TextModel() = default;

  virtual const std::string& name() const = 0;
  virtual const Digest& base() const = 0;  // of the weights that the workers must have
  virtual const Digest& tokenizer() const = 0;
  virtual uint32_t vocab_size() const = 0;
  virtual uint32_t context_tokens() const = 0;

  // A prompt as it is; control tokens written out in it are text. At most `max_tokens`: InvalidArgument
  // beyond.
  virtual StatusOr<std::vector<int32_t>> EncodePrompt(std::string_view text, size_t max_tokens) const = 0;
  // Through the model's own chat template, ready for the assistant's answer. What messages say is text,
  // whatever control tokens it spells.
  virtual StatusOr<std::vector<int32_t>> EncodeChat(std::span<const ChatMessage> messages,
                                                    size_t max_tokens) const = 0;
  // Text that goes on after `input`, which EncodePrompt or EncodeChat made `input_ids` of: the ids that were
  // generated, where such a text was (model/text/continuation.h says what holds).
  virtual StatusOr<std::vector<int32_t>> EncodeContinuation(const TextInput& input,
                                                            std::span<const int32_t> input_ids,
                                                            std::string_view text,
                                                            size_t max_tokens) const = 0;

  // The text that ids add to that of `after` (an answer's prompt), which is not needed afterwards.
  virtual std::unique_ptr<TextStream> NewStream(std::span<const int32_t> after) const = 0;
  // The token for people, control tokens written out; always UTF-8.
  virtual std::string TokenText(int32_t id) const = 0;
  virtual bool IsControl(int32_t id) const = 0;
  // Every token that ends an answer, ascending; a worker with the same files ends answers at these.
  virtual const std::vector<EndToken>& end_tokens() const = 0;
  // What a person should know of this base before trusting its answers, a sentence each; usually none.
  virtual const std::vector<std::string>& warnings() const = 0;
};

// Tokenizer, chat template and the digest of the weights, all of which this reads once. `files` is not needed
// afterwards. NotFound, InvalidArgument or FailedPrecondition naming the file and what is wrong with it.
StatusOr<std::unique_ptr<const TextModel>> LoadTextModel(const ModelFiles& files);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_TEXT_TEXT_MODEL_H_
