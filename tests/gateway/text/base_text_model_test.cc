#include <array>

#include "gateway/text/text_model.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/text/stop_matcher.h"
#include "tests/model/format/tiny_model.h"

namespace coterie::gateway {
namespace {

using ::testing::ElementsAre;

const std::string kMeta = "\xE2\x96\x81";

// A tiny SentencePiece base (as Llama 2 is): <unk> 0, <s> 1, </s> 2, the byte tokens, then these pieces.
enum Piece : int32_t { kSpace = 259, kSay, kWorld, kBareWorld, kBareSay, kOpen, kClose };

constexpr char kTemplate[] =
    "{{ bos_token }}{% for m in messages %}<|turn|>{{ m.content }}<|over|>{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>{% endif %}";

std::unique_ptr<const TextModel> SentencePieceBase(const char* chat_template = kTemplate,
                                                   const char* path = "tiny") {
  ModelConfig config = coterie::testing::TinyConfig();
  config.vocab_size = 266;
  coterie::testing::GgufWriter writer = coterie::testing::TinyGgufMetadata(config);
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<int32_t> types = {2, 3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    const char* const kDigits = "0123456789ABCDEF";
    tokens.push_back(std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">");
    types.push_back(6);
  }
  for (const std::string& piece : {kMeta, kMeta + "S", kMeta + "w", std::string("w"), std::string("S")}) {
    tokens.push_back(piece);
    types.push_back(1);
  }
  for (const char* control : {"<|turn|>", "<|over|>"}) {
    tokens.emplace_back(control);
    types.push_back(3);
  }
  std::vector<float> scores;
  for (size_t id = 0; id < tokens.size(); ++id) scores.push_back(-static_cast<float>(id));
  writer.AddString("tokenizer.ggml.model", "llama")
      .AddStrings("tokenizer.ggml.tokens", tokens)
      .AddArray<int32_t>("tokenizer.ggml.token_type", GgufType::kI32, types)
      .AddArray<float>("tokenizer.ggml.scores", GgufType::kF32, scores)
      .AddU32("tokenizer.ggml.bos_token_id", 1)
      .AddU32("tokenizer.ggml.eos_token_id", 2)
      .AddU32("tokenizer.ggml.unknown_token_id", 0)
      .AddString("tokenizer.chat_template", chat_template);
  coterie::testing::AddTinyWeights(&writer, config);
  const std::string bytes = writer.Bytes();
  const auto files = ModelFiles::FromGguf(GgufFile::Parse(coterie::testing::AsBytes(bytes), path).value());
  EXPECT_TRUE(files.ok()) << files.status();
  StatusOr<std::unique_ptr<const TextModel>> model = LoadTextModel(**files);
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

TEST(BaseTextModelTest, ItsNameIsUtf8WhateverItsPathIs) {
  EXPECT_EQ(SentencePieceBase(kTemplate, "/srv/mod\xe8le.gguf")->name(), "mod\xEF\xBF\xBDle.gguf");
}

TEST(BaseTextModelTest, AnAnswerGoesOnAfterItsPromptAndIsScoredAsItWasGenerated) {
  const std::unique_ptr<const TextModel> model = SentencePieceBase();
  const TextInput input{"S", {}};
  const std::vector<int32_t> prompt = model->EncodePrompt("S", 64).value();
  ASSERT_THAT(prompt, ElementsAre(1, kSay));
  const std::array<int32_t, 2> answer = {kWorld, kWorld};
  const std::unique_ptr<TextStream> stream = model->NewStream(prompt);
  std::string text, bytes;
  for (const int32_t id : answer) {
    EXPECT_EQ(stream->BytesOf(id), " w");
    bytes += stream->BytesOf(id);
    text += stream->Append(id);
  }
  text += stream->Flush();
  EXPECT_EQ(text, " w w");
  EXPECT_EQ(bytes, text);
  EXPECT_THAT(model->EncodeContinuation(input, prompt, text, 64).value(), ElementsAre(kWorld, kWorld));
  EXPECT_THAT(model->EncodeContinuation(input, prompt, "w", 64).value(), ElementsAre(kBareWorld));
}

TEST(BaseTextModelTest, StopStringsSeeTheFirstSpace) {
  const std::unique_ptr<const TextModel> model = SentencePieceBase();
  const std::unique_ptr<TextStream> stream = model->NewStream(model->EncodePrompt("S", 64).value());
  StopMatcher stops(StopStrings::Create({" w w"}).value());
  EXPECT_EQ(stops.Append(stream->Append(kWorld)), "");
  EXPECT_EQ(stops.Append(stream->Append(kWorld)), "");
  EXPECT_TRUE(stops.stopped());
}

TEST(BaseTextModelTest, AConversationsAnswerIsScoredAsItWasGenerated) {
  const std::unique_ptr<const TextModel> model = SentencePieceBase();
  const TextInput input{std::nullopt, {{"user", "S"}}};
  const std::vector<int32_t> prompt = model->EncodeChat(input.chat, 64).value();
  ASSERT_THAT(prompt, ElementsAre(1, kOpen, kSay, kClose, kOpen));
  for (const std::vector<int32_t>& answer :
       {std::vector<int32_t>{kWorld, kWorld}, std::vector<int32_t>{kBareWorld}}) {
    const std::unique_ptr<TextStream> stream = model->NewStream(prompt);
    std::string text;
    for (const int32_t id : answer) text += stream->Append(id);
    text += stream->Flush();
    EXPECT_EQ(model->EncodeContinuation(input, prompt, text, 64).value(), answer) << text;
  }
}

TEST(BaseTextModelTest, APartOfACharacterIsItsByte) {
  const std::unique_ptr<const TextModel> model = SentencePieceBase();
  const std::unique_ptr<TextStream> stream = model->NewStream(model->EncodePrompt("S", 64).value());
  EXPECT_EQ(stream->BytesOf(3 + 0xC3), "\xC3");
  EXPECT_EQ(stream->Append(3 + 0xC3), "");
  EXPECT_EQ(stream->BytesOf(3 + 0xA9), "\xA9");
  EXPECT_EQ(stream->Append(3 + 0xA9), "é");
  // A control token adds nothing; people know it by its name.
  EXPECT_EQ(stream->BytesOf(kClose), "");
  EXPECT_TRUE(model->IsControl(kClose));
  EXPECT_EQ(model->TokenText(kClose), "<|over|>");
}

TEST(BaseTextModelTest, ATemplateThatCannotBeReadRefusesConversationsOnly) {
  const std::unique_ptr<const TextModel> model = SentencePieceBase("{% if %}");
  EXPECT_THAT(model->EncodePrompt("S", 64).value(), ElementsAre(1, kSay));
  const std::vector<ChatMessage> chat = {{"user", "S"}};
  EXPECT_EQ(model->EncodeChat(chat, 64).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(
      model->warnings(),
      ElementsAre(::testing::HasSubstr("conversations cannot be answered, prompts can: the chat template")));
}

TEST(BaseTextModelTest, EndTokensAreThoseOfFileTemplateAndName) {
  EXPECT_THAT(SentencePieceBase()->end_tokens(),
              ElementsAre(EndToken{2, "</s>", "tokenizer.ggml.eos_token_id"},
                          EndToken{kClose, "<|over|>", "chat template"}));
}

}  // namespace
}  // namespace coterie::gateway
