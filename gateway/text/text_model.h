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
#include "model/format/model_files.h"

namespace coterie::gateway {

struct ChatMessage {
  std::string role;
  std::string content;
};

// Token ids to text as they come, whole characters at a time. One per answer; not thread-safe.
class TextStream {
 public:
  virtual ~TextStream() = default;
  virtual std::string Append(int32_t id) = 0;
  virtual std::string Flush() = 0;  // at the end
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
  // Text that goes on after another: nothing is put around it.
  virtual StatusOr<std::vector<int32_t>> EncodeContinuation(std::string_view text,
                                                            size_t max_tokens) const = 0;

  virtual std::unique_ptr<TextStream> NewStream() const = 0;
  // The token as text, control tokens written out.
  virtual std::string TokenText(int32_t id) const = 0;
};

// Tokenizer, chat template and the digest of the weights, all of which this reads once. `files` is not needed
// afterwards. NotFound, InvalidArgument or FailedPrecondition naming the file and what is wrong with it.
StatusOr<std::unique_ptr<const TextModel>> LoadTextModel(const ModelFiles& files);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_TEXT_TEXT_MODEL_H_
