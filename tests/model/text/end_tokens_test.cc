#include "model/text/end_tokens.h"

#include <functional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/text/base_text.h"
#include "model/text/turn_end.h"
#include "nlohmann/json.hpp"
#include "tests/model/format/temp_folder.h"
#include "tests/model/format/tiny_model.h"
#include "tests/model/text/text_testing.h"
#include "tests/real_models.h"
#include "tests/source_root.h"

namespace coterie {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using TokenizerPtr = std::shared_ptr<const Tokenizer>;

// A byte-level vocabulary whose first tokens are these, control tokens unless `type` says else.
TokenizerPtr WithControls(const std::vector<std::string>& controls, int32_t type = 3,
                          std::optional<int32_t> bos = std::nullopt) {
  TokenizerSpec spec = SmallByteLevelSpec("gpt-2", {});
  spec.tokens.insert(spec.tokens.begin() + 3, controls.begin(), controls.end());
  spec.token_types.insert(spec.token_types.begin() + 3, controls.size(), type);
  spec.tokens.erase(spec.tokens.begin(), spec.tokens.begin() + 3);
  spec.token_types.erase(spec.token_types.begin(), spec.token_types.begin() + 3);
  spec.bos_id = bos;
  spec.eos_id.reset();
  return Tokenizer::Create(spec).value();
}

std::optional<std::string> TurnEnd(const TokenizerPtr& tokenizer, const std::string& source) {
  ChatTemplate::SpecialTokens special = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  const StatusOr<ChatTemplate> chat = ChatTemplate::Create(source, std::move(special));
  EXPECT_TRUE(chat.ok()) << chat.status();
  const std::optional<int32_t> id = FindTurnEnd(*tokenizer, *chat);
  if (!id) return std::nullopt;
  return std::string(tokenizer->TokenToPiece(*id).value());
}

std::string Loop(const std::string& body, const std::string& prompt) {
  return "{% for m in messages %}" + body + "{% endfor %}{% if add_generation_prompt %}" + prompt +
         "{% endif %}";
}

TEST(TurnEndTest, IsTheControlTokenBehindAnAssistantsMessage) {
  const TokenizerPtr chatml = WithControls({"<|im_start|>", "<|im_end|>", "<|endoftext|>"});
  EXPECT_EQ(TurnEnd(chatml,
                    Loop("<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n", "<|im_start|>assistant\n")),
            "<|im_end|>");
  // With a system prompt of its own, whose end stands before the first message; SmolLM2's token before all
  // text is the one that opens a turn.
  for (const std::optional<int32_t> bos : {std::optional<int32_t>(), std::optional<int32_t>(0)}) {
    EXPECT_EQ(
        TurnEnd(WithControls({"<|im_start|>", "<|im_end|>"}, 3, bos),
                "{% if messages[0].role != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" +
                    Loop("<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n", "<|im_start|>assistant\n")),
        "<|im_end|>");
  }
  const TokenizerPtr llama3 = WithControls(
      {"<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"}, 3,
      0);
  EXPECT_EQ(TurnEnd(llama3,
                    "<|begin_of_text|>" +
                        Loop("<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>",
                             "<|start_header_id|>assistant<|end_header_id|>\n\n")),
            "<|eot_id|>");
  const TokenizerPtr phi =
      WithControls({"<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<|endoftext|>"});
  EXPECT_EQ(TurnEnd(phi,
                    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
                    "{% if add_generation_prompt %}<|assistant|>\n{% else %}<|endoftext|>{% endif %}"),
            "<|end|>");
  const TokenizerPtr gemma = WithControls({"<bos>", "<start_of_turn>", "<end_of_turn>"}, 3, 0);
  EXPECT_EQ(
      TurnEnd(gemma,
              "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}<bos>" +
                  Loop("<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | "
                       "trim }}<end_of_turn>\n",
                       "<start_of_turn>model\n")),
      "<end_of_turn>");
}

TEST(TurnEndTest, IsFoundWhereOnlyTheAssistantsTurnIsClosed) {
  const TokenizerPtr llama2 = WithControls({"<unk>", "<s>", "</s>"}, 3, 1);
  EXPECT_EQ(
      TurnEnd(llama2,
              "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' "
              "[/INST]' }}{% elif m.role == 'assistant' %}{{ ' ' + m.content + ' ' + eos_token }}"
              "{% else %}{{ raise_exception('no') }}{% endif %}{% endfor %}"),
      "</s>");
  // Its name is nobody's.
  const TokenizerPtr own = WithControls({"<|x-user|>", "<|x-bot|>", "<|x-over|>"});
  EXPECT_EQ(
      TurnEnd(own, Loop("{% if m.role == 'user' %}<|x-user|>{{ m.content }}{% else %}<|x-bot|>{{ m.content "
                        "}}<|x-over|>{% endif %}",
                        "<|x-bot|>")),
      "<|x-over|>");
}

TEST(TurnEndTest, IsFoundWhereTheLastMessageStaysOpen) {
  const TokenizerPtr tokenizer = WithControls({"<|im_start|>", "<|x-over|>"});
  EXPECT_EQ(
      TurnEnd(tokenizer, Loop("<|im_start|>{{ m.role }}\n{{ m.content }}{% if not loop.last or m.role == "
                              "'user' %}<|x-over|>\n{% endif %}",
                              "<|im_start|>assistant\n")),
      "<|x-over|>");
  // A template that wants the user to have the last word.
  EXPECT_EQ(
      TurnEnd(tokenizer,
              "{% if messages[-1].role != 'user' %}{{ raise_exception('a user must ask') }}{% endif %}" +
                  Loop("<|im_start|>{{ m.role }}\n{{ m.content }}<|x-over|>\n", "<|im_start|>assistant\n")),
      "<|x-over|>");
}

// Qwen1.5's kind: the last turn stays open until an answer is asked for, whoever spoke, so that what asks for
// an answer begins with the token that ends a turn.
TEST(TurnEndTest, IsFoundWhereAskingForAnAnswerClosesTheTurnBeforeIt) {
  const TokenizerPtr tokenizer = WithControls({"<|x-turn|>", "<|x-over|>", "<|x-bot|>", "<|x-sep|>"});
  const std::string message = "<|x-turn|>{{ m.role }}\n{{ m.content }}";
  const std::string asked = "<|x-turn|>assistant\n";
  EXPECT_EQ(TurnEnd(tokenizer, Loop(message + "{% if (loop.last and add_generation_prompt) or not loop.last "
                                              "%}<|x-over|>\n{% endif %}",
                                    asked)),
            "<|x-over|>");
  // With a system prompt of its own, and one that takes none.
  EXPECT_EQ(TurnEnd(tokenizer,
                    "{% if messages[0].role != 'system' %}<|x-turn|>system\nBe kind.<|x-over|>\n{% "
                    "endif %}" +
                        Loop(message + "{% if add_generation_prompt or not loop.last "
                                       "%}<|x-over|>\n{% endif %}",
                             asked)),
            "<|x-over|>");
  EXPECT_EQ(
      TurnEnd(tokenizer,
              "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}" +
                  Loop(message + "{% if not loop.last %}<|x-over|>\n{% endif %}", "<|x-over|>\n" + asked)),
      "<|x-over|>");
  // Nothing at all is closed unless an answer is asked for.
  EXPECT_EQ(
      TurnEnd(tokenizer, Loop(message + "{% if add_generation_prompt %}<|x-over|>\n{% endif %}", asked)),
      "<|x-over|>");
  // A turn of the user's ends with another token than an answer.
  EXPECT_EQ(
      TurnEnd(tokenizer, Loop("{% if m.role == 'assistant' %}<|x-bot|>{{ m.content }}{% if not loop.last "
                              "%}<|x-over|>{% endif %}{% else %}<|x-turn|>{{ m.content }}{% if not "
                              "loop.last %}<|x-sep|>{% endif %}{% endif %}",
                              "<|x-sep|><|x-bot|>")),
      "<|x-over|>");
  // The text before the question differs where an answer is asked for.
  EXPECT_EQ(
      TurnEnd(tokenizer, "{% if add_generation_prompt %}<|x-turn|>system\nThink.<|x-over|>\n{% endif %}" +
                             Loop(message + "<|x-over|>\n", asked)),
      "<|x-over|>");
}

TEST(TurnEndTest, ATokenThatOpensATurnIsNone) {
  const TokenizerPtr glm = WithControls({"<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"});
  EXPECT_EQ(TurnEnd(glm, Loop("<|{{ m.role }}|>\n{{ m.content }}", "<|assistant|>\n")), std::nullopt);
  EXPECT_EQ(TurnEnd(glm, Loop("<|{{ m.role }}|>{{ m.content }}", "")), std::nullopt);
  // It asks for an answer whether asked to or not.
  EXPECT_EQ(
      TurnEnd(glm, "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}<|assistant|>\n"),
      std::nullopt);
  const TokenizerPtr headers = WithControls({"<|start_header_id|>", "<|end_header_id|>"});
  EXPECT_EQ(TurnEnd(headers, Loop("<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}",
                                  "<|start_header_id|>assistant<|end_header_id|>\n\n")),
            std::nullopt);
  const TokenizerPtr bos = WithControls({"<s>"}, 3, 0);
  EXPECT_EQ(
      TurnEnd(bos,
              "{% for m in messages %}{% if m.role == 'user' %}<s>[INST] {{ m.content }} [/INST]{% else %} "
              "{{ m.content }}{% endif %}{% endfor %}"),
      std::nullopt);
}

// A token that opens turns opens the one that is asked for too, whatever ends none.
TEST(TurnEndTest, WhatAsksForAnAnswerOpensItWhereNothingIsClosed) {
  const TokenizerPtr tokenizer =
      WithControls({"<s>", "<|turn|>", "<|bot|>", "<|end|>", "<|endoftext|>", "<|user|>"}, 3, 0);
  const std::string no_system =
      "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}";
  for (const std::string start : {"", "<s>"}) {
    EXPECT_EQ(TurnEnd(tokenizer, no_system + start +
                                     Loop("<|turn|>{{ m.role }}\n{{ m.content }}\n", "<|turn|>assistant\n")),
              std::nullopt)
        << start;
    EXPECT_EQ(TurnEnd(tokenizer,
                      start + Loop("<|turn|>{{ m.role }}\n{{ m.content }}\n", "<|turn|>assistant\n<|bot|>")),
              std::nullopt)
        << start;
  }
  // Two tokens that begin alike: one closes the whole text, the other asks for an answer.
  EXPECT_EQ(TurnEnd(tokenizer,
                    "{% for m in messages %}{% if m.role == 'assistant' %}<|end|>{% else %}<|user|>{% "
                    "endif %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|end|>{% else "
                    "%}<|endoftext|>{% endif %}"),
            "<|endoftext|>");
}

TEST(TurnEndTest, PlainTextIsNone) {
  const std::string source = Loop("### {{ m.role }}:\n{{ m.content }}\n\n", "### assistant:\n");
  EXPECT_EQ(TurnEnd(WithControls({"<|endoftext|>"}), source), std::nullopt);
  // Spelled like a control token, but the vocabulary has no such token.
  EXPECT_EQ(TurnEnd(WithControls({"<|endoftext|>"}),
                    Loop("<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n", "<|im_start|>assistant\n")),
            std::nullopt);
  // An added word is text, unless it is written as control tokens are.
  const std::string tagged = Loop("<{{ m.role }}>{{ m.content }}</turn>", "<assistant>");
  EXPECT_EQ(TurnEnd(WithControls({"</turn>"}, 4), tagged), std::nullopt);
  EXPECT_EQ(
      TurnEnd(WithControls({"<|turn|>"}, 4), Loop("{{ m.role }}: {{ m.content }}<|turn|>", "assistant: ")),
      "<|turn|>");
}

TEST(TurnEndTest, ATemplateThatRendersNothingHasNone) {
  const TokenizerPtr tokenizer = WithControls({"<|im_end|>"});
  EXPECT_EQ(TurnEnd(tokenizer, "{{ raise_exception('never') }}"), std::nullopt);
  EXPECT_EQ(TurnEnd(tokenizer, "fixed<|im_end|>"), std::nullopt);
  EXPECT_EQ(FindTurnEnd(*tokenizer, ChatTemplate()), std::nullopt);
}

// A tiny base with this tokenizer as GGUF keys.
class EndTokensTest : public ::testing::Test {
 protected:
  static std::vector<std::string> Texts(const std::vector<EndToken>& ends) {
    std::vector<std::string> texts;
    for (const EndToken& end : ends) texts.push_back(end.text + " by " + end.source);
    return texts;
  }

  // Tokens 0 ... are `controls`, then plain words; `keys` adds to the metadata.
  static std::vector<EndToken> OfGguf(const std::vector<std::string>& controls, const std::string& source,
                                      const std::function<void(testing::GgufWriter*)>& keys) {
    ModelConfig config = testing::TinyConfig();
    config.vocab_size = 264;
    testing::GgufWriter writer = testing::TinyGgufMetadata(config);
    std::vector<std::string> tokens = controls;
    std::vector<int32_t> types(controls.size(), 3);
    for (int byte = 0; byte < 256; ++byte) tokens.push_back(ByteCharacter(static_cast<unsigned char>(byte)));
    tokens.resize(264, "");
    for (size_t id = controls.size() + 256; id < 264; ++id) tokens[id] = "pad" + std::to_string(id);
    types.resize(264, 1);
    writer.AddString("tokenizer.ggml.model", "gpt2")
        .AddString("tokenizer.ggml.pre", "gpt-2")
        .AddStrings("tokenizer.ggml.tokens", tokens)
        .AddArray<int32_t>("tokenizer.ggml.token_type", GgufType::kI32, types)
        .AddStrings("tokenizer.ggml.merges", {});
    if (!source.empty()) writer.AddString("tokenizer.chat_template", source);
    keys(&writer);
    testing::AddTinyWeights(&writer, config);
    const std::string bytes = writer.Bytes();
    const auto files = ModelFiles::FromGguf(GgufFile::Parse(testing::AsBytes(bytes), "tiny.gguf").value());
    EXPECT_TRUE(files.ok()) << files.status();
    const StatusOr<BaseText> text = LoadBaseText(**files);
    EXPECT_TRUE(text.ok()) << text.status();
    return text->end_tokens;
  }
};

const char kChatMl[] =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

TEST_F(EndTokensTest, AGgufsKeysTemplateAndNamesAllCount) {
  // A base model tuned on ChatML: its eos key still names the end of a document.
  EXPECT_THAT(Texts(OfGguf({"<|endoftext|>", "<|im_start|>", "<|im_end|>"}, kChatMl,
                           [](auto* w) { w->AddU32("tokenizer.ggml.eos_token_id", 0); })),
              ElementsAre("<|endoftext|> by tokenizer.ggml.eos_token_id", "<|im_end|> by chat template"));
  EXPECT_THAT(Texts(OfGguf({"<one>", "<two>", "<three>", "<four>", "<five>"}, "",
                           [](auto* w) {
                             w->AddU32("tokenizer.ggml.eos_token_id", 3)
                                 .AddU32("tokenizer.ggml.eot_token_id", 0)
                                 .AddU32("tokenizer.ggml.eom_token_id", 1)
                                 .template AddArray<int32_t>("tokenizer.ggml.eos_token_ids", GgufType::kI32,
                                                             {3, 4});
                           })),
              ElementsAre("<one> by tokenizer.ggml.eot_token_id", "<two> by tokenizer.ggml.eom_token_id",
                          "<four> by tokenizer.ggml.eos_token_id", "<five> by tokenizer.ggml.eos_token_ids"));
  EXPECT_THAT(
      Texts(OfGguf({"<|user|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>"}, "", [](auto*) {})),
      ElementsAre("<|eot_id|> by name", "<|eom_id|> by name", "<end_of_turn> by name"));
  EXPECT_THAT(OfGguf({"<|user|>"}, "", [](auto*) {}), IsEmpty());
}

TEST_F(EndTokensTest, ATemplateThatCannotBeReadKeepsNothingElseFromEnding) {
  EXPECT_THAT(Texts(OfGguf({"<|endoftext|>", "<|im_start|>", "<|im_end|>"}, "{% if %}",
                           [](auto* w) { w->AddU32("tokenizer.ggml.eos_token_id", 0); })),
              ElementsAre("<|endoftext|> by tokenizer.ggml.eos_token_id", "<|im_end|> by name"));
}

TEST_F(EndTokensTest, EveryFileOfAFolderCounts) {
  const std::filesystem::path tiny = testing::SourceRoot() / "tests/data/tiny-llama";
  testing::TempFolder folder;
  for (const char* file : {"config.json", "model.safetensors", "tokenizer.json"})
    std::filesystem::copy(tiny / file, folder.path() / file);
  const auto ends = [&] {
    const auto files = ModelFiles::Open(folder.path());
    EXPECT_TRUE(files.ok()) << files.status();
    return Texts(LoadBaseText(**files).value().end_tokens);
  };
  // <|endoftext|> 0, <|im_start|> 1, <|im_end|> 2; config.json says 2.
  EXPECT_THAT(ends(), ElementsAre("<|endoftext|> by name", "<|im_end|> by config.json"));
  folder.Write("generation_config.json", R"({"eos_token_id": [0, 2]})");
  EXPECT_THAT(ends(),
              ElementsAre("<|endoftext|> by generation_config.json", "<|im_end|> by generation_config.json"));
  folder.Write("generation_config.json", R"({"eos_token_id": null})");
  folder.Write("tokenizer_config.json", R"({"eos_token": {"content": "<|im_start|>", "special": true}})");
  EXPECT_THAT(ends(), ElementsAre("<|endoftext|> by name", "<|im_start|> by tokenizer files",
                                  "<|im_end|> by config.json"));
  folder.Write("tokenizer_config.json", "{}");
  folder.Write("special_tokens_map.json", R"({"eos_token": "<|im_start|>"})");
  EXPECT_THAT(ends(), ElementsAre("<|endoftext|> by name", "<|im_start|> by tokenizer files",
                                  "<|im_end|> by config.json"));
}

TEST_F(EndTokensTest, AnOrdinaryTokenInALeftOverConfigEndsNothing) {
  const std::filesystem::path tiny = testing::SourceRoot() / "tests/data/tiny-llama";
  testing::TempFolder folder;
  for (const char* file : {"model.safetensors", "tokenizer.json"})
    std::filesystem::copy(tiny / file, folder.path() / file);
  nlohmann::json config = nlohmann::json::parse(ReadFile(tiny / "config.json", 1 << 20).value());
  config["eos_token_id"] = 100;
  folder.Write("config.json", config.dump());
  const auto ends = [&] {
    std::vector<int32_t> ids;
    const auto files = ModelFiles::Open(folder.path());
    const BaseText text = LoadBaseText(**files).value();
    for (const EndToken& end : text.end_tokens) ids.push_back(end.id);
    return ids;
  };
  EXPECT_THAT(ends(), ElementsAre(0, 2, 100));  // nothing else is named, so it is believed
  folder.Write("generation_config.json", R"({"eos_token_id": 2})");
  EXPECT_THAT(ends(), ElementsAre(0, 2));
}

TEST(RealEndTokensTest, SmolLm2EndsItsTurnsAsItsTemplateDoes) {
  const std::filesystem::path path = testing::RealBase();
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
  const auto files = ModelFiles::Open(path);
  const BaseText text = LoadBaseText(**files).value();
  EXPECT_EQ(FindTurnEnd(*text.tokenizer, text.chat_template), 2);
  EXPECT_THAT(text.warnings, IsEmpty());
  EXPECT_THAT(text.end_tokens, ElementsAre(EndToken{0, "<|endoftext|>", "name"},
                                           EndToken{2, "<|im_end|>", "tokenizer.ggml.eos_token_id"}));
}

}  // namespace
}  // namespace coterie
