#include "model/lora/peft_config.h"

#include <gtest/gtest.h>

#include <map>

#include "absl/strings/str_replace.h"
#include "common/json.h"
#include "model/lora/module_resolver.h"
#include "tests/model/format/expect_refused.h"
#include "tests/model/lora/tiny_adapter.h"

namespace coterie {
namespace {

using testing::TinyAdapterJson;
using testing::TinyConfig;

Status ParseWith(std::string_view more) {
  return ParsePeftConfig(TinyAdapterJson(more), "adapter_config.json").status();
}

Status ResolveWith(std::string_view more, int n_layers = 12) {
  const auto peft = ParsePeftConfig(TinyAdapterJson(more), "adapter_config.json");
  if (!peft.ok()) return peft.status();
  ModelConfig base = TinyConfig();
  base.n_layers = n_layers;
  return ResolveModules(*peft, base, "adapter_config.json").status();
}

// The reference is PEFT itself; tests/golden/make_peft.py wrote the file.
TEST(PeftConfigTest, SelectsTheModulesRanksAndScalesThatPeftDoes) {
  const auto golden = ReadJsonFile(std::string(COTERIE_SOURCE_DIR) + "/tests/golden/peft.json");
  ASSERT_TRUE(golden.ok()) << golden.status();
  ModelConfig base = TinyConfig();
  base.n_layers = (*golden)["base"]["num_hidden_layers"].get<int>();
  int n_cases = 0;
  for (const Json& item : (*golden)["cases"]) {
    SCOPED_TRACE(item["name"].get<std::string>());
    const auto peft = ParsePeftConfig(item["config"].get<std::string>(), "adapter_config.json");
    ASSERT_TRUE(peft.ok()) << peft.status();
    const auto modules = ResolveModules(*peft, base, "adapter_config.json");
    ASSERT_TRUE(modules.ok()) << modules.status();
    std::map<std::string, std::pair<int, double>> ours, theirs;
    for (const AdaptedModule& m : *modules) ours[m.name] = {m.rank, m.scale};
    for (const auto& [name, value] : item["modules"].items()) {
      theirs[name] = {value[0].get<int>(), value[1].get<double>()};
    }
    EXPECT_EQ(ours, theirs);
    ++n_cases;
  }
  EXPECT_EQ(n_cases, 11);
}

TEST(PeftConfigTest, RefusesUnsupportedFeaturesByField) {
  const std::pair<const char*, const char*> cases[] = {{"use_dora", "true"},
                                                       {"modules_to_save", "[\"lm_head\"]"},
                                                       {"lora_bias", "true"},
                                                       {"layer_replication", "[[0, 4], [2, 5]]"},
                                                       {"trainable_token_indices", "[1]"},
                                                       {"target_parameters", "[\"experts.gate_up_proj\"]"},
                                                       {"alora_invocation_tokens", "[1, 2]"},
                                                       {"use_qalora", "true"},
                                                       {"use_bdlora", "{\"nblocks\": 2}"},
                                                       {"arrow_config", "{\"top_k\": 2}"},
                                                       {"kasa_config", "{\"beta\": 1}"},
                                                       {"monteclora_config", "{\"num_samples\": 2}"}};
  for (const auto& [field, value] : cases) {
    EXPECT_REFUSED(ParseWith(absl::StrCat("\"", field, "\": ", value)), kUnimplemented,
                   absl::StrCat("adapter_config.json: field \"", field, "\" is "));
    EXPECT_TRUE(ParseWith(absl::StrCat("\"", field, "\": null")).ok()) << field;
  }
  EXPECT_REFUSED(ParseWith("\"peft_type\": \"IA3\""), kInvalid, "key \"peft_type\" appears twice");
  EXPECT_REFUSED(ParsePeftConfig("{\"peft_type\": \"IA3\"}", "a").status(), kUnimplemented,
                 "field \"peft_type\" is \"IA3\"");
  EXPECT_REFUSED(ParsePeftConfig("{\"task_type\": \"SEQ_CLS\"}", "a").status(), kUnimplemented,
                 "field \"task_type\" is \"SEQ_CLS\"");
  EXPECT_REFUSED(ParseWith("\"bias\": \"lora_only\""), kUnimplemented, "field \"bias\" is \"lora_only\"");
  for (const char* kind : {"pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "loftq", "lora_ga", "new"}) {
    EXPECT_REFUSED(ParseWith(absl::StrCat("\"init_lora_weights\": \"", kind, "\"")), kUnimplemented,
                   "field \"init_lora_weights\" is ");
  }
}

TEST(PeftConfigTest, IgnoresTrainingFieldsAndRefusesUnknownOnes) {
  EXPECT_TRUE(
      ParseWith(R"("lora_dropout": 0.1, "init_lora_weights": "gaussian", "megatron_core": "megatron.core",
      "eva_config": {"rho": 2}, "peft_version": "0.21.2", "auto_mapping": {"a": 1}, "qalora_group_size": 16,
      "ensure_weight_tying": true, "inference_mode": true, "fan_in_fan_out": true)")
          .ok());
  EXPECT_TRUE(
      ParseWith("\"new_field\": null, \"newer\": false, \"newest\": {}, \"list\": [], \"text\": \"\"").ok());
  for (const char* value : {"true", "1", "0", "\"x\"", "[0]", "{\"a\": null}"}) {
    EXPECT_REFUSED(ParseWith(absl::StrCat("\"new_field\": ", value)), kUnimplemented,
                   absl::StrCat("field \"new_field\" is ", absl::StrReplaceAll(value, {{": ", ":"}})));
  }
}

TEST(PeftConfigTest, BoundsRanksAndScales) {
  EXPECT_REFUSED(ParseWith("\"r\": 0"), kInvalid, "field \"r\" is 0, expected an integer from 1 to 1024");
  EXPECT_REFUSED(ParseWith("\"r\": 1025"), kInvalid, "field \"r\" is 1025");
  EXPECT_REFUSED(ParseWith("\"lora_alpha\": 1e7"), kInvalid, "field \"lora_alpha\" is ");
  EXPECT_REFUSED(ParseWith("\"rank_pattern\": {\"q_proj\": 3000}"), kInvalid,
                 "adapter_config.json rank_pattern: field \"q_proj\" is 3000");
  EXPECT_REFUSED(ParseWith("\"alpha_pattern\": {\"q_proj\": \"x\"}"), kInvalid,
                 "adapter_config.json alpha_pattern: field \"q_proj\" is \"x\"");
  EXPECT_REFUSED(ParseWith("\"rank_pattern\": [1]"), kInvalid,
                 "field \"rank_pattern\" is [1], expected an object");
  EXPECT_REFUSED(ParsePeftConfig(TinyAdapterJson("\"r\": 9"), "a", {.max_rank = 8}).status(), kInvalid,
                 "expected an integer from 1 to 8");
}

TEST(PeftConfigTest, RefusesSelectorsThatPeftRefuses) {
  EXPECT_REFUSED(ParseWith("\"target_modules\": null"), kInvalid,
                 "field \"target_modules\" is null, expected names");
  EXPECT_REFUSED(ParseWith("\"target_modules\": []"), kInvalid, "field \"target_modules\" is []");
  EXPECT_REFUSED(ParseWith("\"target_modules\": [\"\"]"), kInvalid, "an empty name matches nothing");
  EXPECT_REFUSED(ParseWith("\"target_modules\": [3]"), kInvalid, "expected a string or a list of strings");
  EXPECT_REFUSED(ParseWith("\"target_modules\": \".*\", \"layers_to_transform\": [1]"), kInvalid,
                 "field \"layers_to_transform\" is [1], it needs a list of names");
  EXPECT_REFUSED(ParseWith("\"layers_pattern\": \"layers\""), kInvalid, "it needs layers_to_transform");
  EXPECT_REFUSED(ParseWith("\"layers_to_transform\": [-1]"), kInvalid,
                 "field \"layers_to_transform\" is [-1]");
}

TEST(PeftConfigTest, RefusesModulesThatTheBaseLacks) {
  EXPECT_REFUSED(ResolveWith("\"target_modules\": [\"q_proj\", \"c_attn\"]"), kPrecondition,
                 "field \"target_modules\" names \"c_attn\", which is no linear layer of this base");
  EXPECT_REFUSED(ResolveWith("\"target_modules\": [\"q_proj\", \"lm_head\"]"), kPrecondition,
                 "names \"lm_head\"");
  EXPECT_REFUSED(ResolveWith("\"target_modules\": [\"q_proj\", \"embed_tokens\"]"), kPrecondition,
                 "names \"embed_tokens\"");
  EXPECT_REFUSED(ResolveWith("\"target_modules\": [\"proj\"]"), kPrecondition, "names \"proj\"");
  EXPECT_REFUSED(ResolveWith("\"target_modules\": [\"model.layers.12.self_attn.q_proj\"]"), kPrecondition,
                 "names \"model.layers.12.self_attn.q_proj\"");
  EXPECT_REFUSED(ResolveWith("\"layers_to_transform\": [11, 12]"), kPrecondition,
                 "field \"layers_to_transform\" names layer 12, the base has 12 layers");
  EXPECT_REFUSED(ResolveWith("\"target_modules\": \"encoder.*\""), kPrecondition,
                 "the adapter would change nothing");
  EXPECT_REFUSED(ResolveWith("\"exclude_modules\": [\"q_proj\", \"down_proj\"]"), kPrecondition,
                 "the adapter would change nothing");
  EXPECT_REFUSED(ResolveWith("\"layers_to_transform\": [1], \"layers_pattern\": \"h\""), kPrecondition,
                 "the adapter would change nothing");
}

TEST(PeftConfigTest, BoundsHostilePatterns) {
  EXPECT_REFUSED(ResolveWith("\"target_modules\": \"(\""), kInvalid,
                 "field \"target_modules\": pattern \"(\" is invalid at byte 1: missing closing parenthesis");
  EXPECT_REFUSED(ResolveWith("\"target_modules\": \"(.*)*(.*)*(.*)*(.*)*[XYZ]\""),
                 absl::StatusCode::kInvalidArgument, "match limit exceeded");
  EXPECT_REFUSED(ResolveWith(absl::StrCat("\"target_modules\": \"", std::string(8193, 'a'), "\"")), kInvalid,
                 "the pattern has 8193 bytes, the limit is 8192");
  std::string many = "\"rank_pattern\": {";
  for (int i = 0; i < 33; ++i) absl::StrAppend(&many, i == 0 ? "" : ", ", "\"[qk]_proj", i, "\": 4");
  EXPECT_REFUSED(ResolveWith(many + "}"), kInvalid, "field \"rank_pattern\": too many regular expressions");
  std::string layers = "\"layers_to_transform\": [1], \"layers_pattern\": [";
  for (int i = 0; i < 17; ++i) absl::StrAppend(&layers, i == 0 ? "" : ", ", "\"p", i, "\"");
  EXPECT_REFUSED(ResolveWith(layers + "]"), kInvalid, "has 17 patterns, the limit is 16");
}

}  // namespace
}  // namespace coterie
