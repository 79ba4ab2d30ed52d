// Loading and unloading adapters over HTTP, as vLLM has it.
#include <fstream>
#include <string>

#include "tests/gateway/http/api_test_base.h"

namespace coterie::gateway::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

class LoraTest : public ApiTest {
 protected:
  void StartAdmin(bool with_folders = true) {
    fs::create_directories(loras_);
    GatewayOptions options = HttpOptions({worker_.address()});
    options.admin_http_listen = "127.0.0.1:0";
    if (with_folders) options.lora_folders = {loras_.string()};
    Start(std::move(options), {"math"});
  }
  Reply PostAdmin(std::string_view path, const json& body) {
    return HttpClient(gateway_->server->admin_http_port()).Post(path, body);
  }
  Reply Load(const json& body) { return PostAdmin("/v1/load_lora_adapter", body); }
  Reply Unload(const json& body) { return PostAdmin("/v1/unload_lora_adapter", body); }
  std::string AnsweredBy(const std::string& model, const std::string& question = "x") {
    const Reply reply = Post("/v1/completions", {{"model", model}, {"prompt", question}, {"max_tokens", 2}});
    return reply.code == 200 ? reply.Json()["model"].get<std::string>() : std::to_string(reply.code);
  }
  // As PEFT writes it, without our card and prototypes.
  void WritePlain(const std::string& name, const std::string& weights = "weights") {
    WriteExpert(loras_ / name, {.name = name, .weights = weights});
    fs::remove(loras_ / name / kCardFile);
    fs::remove(loras_ / name / kPrototypesFile);
  }

  const fs::path loras_ = folder_ / "loras";
};

TEST_F(LoraTest, APlainFolderAnswersToItsNameAndIsWithdrawn) {
  StartAdmin();
  WritePlain("law");
  const Reply loaded = Load({{"lora_name", "law"}, {"lora_path", "law"}, {"lora_int_id", 7}});
  EXPECT_EQ(loaded.code, 200) << loaded.body;
  EXPECT_THAT(loaded.body, HasSubstr("published law"));
  EXPECT_EQ(AnsweredBy("law"), "law");
  // Nothing is said of its questions, so it takes none from others.
  EXPECT_EQ(AnsweredBy("auto", "law law"), "base");
  EXPECT_EQ(AnsweredBy("auto", "math"), "math");

  ExpectError(Load({{"lora_name", "law"}, {"lora_path", "law"}}), 400, "load_inplace", "lora_name");
  WritePlain("law2", "other weights");
  const Reply again =
      Load({{"lora_name", "law"}, {"lora_path", (loras_ / "law2").string()}, {"load_inplace", true}});
  EXPECT_EQ(again.code, 200) << again.body;
  EXPECT_EQ(Unload({{"lora_name", "law"}}).code, 200);
  EXPECT_EQ(AnsweredBy("law"), "404");
  ExpectError(Unload({{"lora_name", "law"}}), 404, "law", "lora_name");
}

TEST_F(LoraTest, ExamplesMakeItRoutable) {
  StartAdmin();
  WritePlain("law");
  const Reply loaded = Load({{"lora_name", "law"},
                             {"lora_path", "law"},
                             {"examples", {"laa", "lab", "lac"}},
                             {"description", "of courts"},
                             {"tags", {"court"}}});
  EXPECT_EQ(loaded.code, 200) << loaded.body;
  EXPECT_THAT(loaded.body, HasSubstr("3 of 3"));
  EXPECT_EQ(AnsweredBy("auto", "lxx"), "law");
}

TEST_F(LoraTest, AWholeExpertFolderKeepsItsCard) {
  StartAdmin();
  WriteExpert(loras_ / "folder", {.name = "zoo", .weights = "z"});
  const std::vector<float> prototype = FakeEmbedder::VectorOf("zoo");
  std::ofstream(loras_ / "folder" / kPrototypesFile, std::ios::binary)
      << SafetensorsOf("prototypes", {1, static_cast<int64_t>(prototype.size())}, prototype);
  ExpectError(Load({{"lora_name", "law"}, {"lora_path", "folder"}}), 400, "names the expert zoo",
              "lora_name");
  EXPECT_EQ(Load({{"lora_name", "zoo"}, {"lora_path", "folder"}}).code, 200);
  EXPECT_EQ(AnsweredBy("auto", "zzz"), "zoo");
}

TEST_F(LoraTest, WhatIsWrongIsRefusedByFieldAndTellsNoPaths) {
  StartAdmin();
  WritePlain("law");
  fs::create_directories(loras_ / "empty");
  fs::create_directory_symlink("/etc", loras_ / "way");
  struct Case {
    int code;
    std::string words;
    std::string param;
    json body;
  };
  const Case cases[] = {
      {400, "lora_name is missing", "lora_name", {{"lora_path", "law"}}},
      {400, "lora_path is missing", "lora_path", {{"lora_name", "law"}}},
      {400, "lora_path is 7", "lora_path", {{"lora_name", "law"}, {"lora_path", 7}}},
      {400, "may hold only", "lora_name", {{"lora_name", "A Law"}, {"lora_path", "law"}}},
      {400, "reserved", "lora_name", {{"lora_name", "base"}, {"lora_path", "law"}}},
      {400, "\"..\" is not allowed", "lora_path", {{"lora_name", "law"}, {"lora_path", "../law"}}},
      {404, "no such folder", "lora_path", {{"lora_name", "law"}, {"lora_path", "/etc"}}},
      {404, "no such folder", "lora_path", {{"lora_name", "law"}, {"lora_path", "org/law"}}},
      {403, "leads out", "lora_path", {{"lora_name", "law"}, {"lora_path", "way"}}},
      {404, "adapter_config.json", "lora_path", {{"lora_name", "law"}, {"lora_path", "empty"}}},
      {400,
       "load_inplace",
       "load_inplace",
       {{"lora_name", "law"}, {"lora_path", "law"}, {"load_inplace", 1}}},
      {400,
       "examples[1]",
       "examples[1]",
       {{"lora_name", "law"}, {"lora_path", "law"}, {"examples", {"a", 1}}}},
  };
  for (const Case& c : cases) {
    const Reply reply = Load(c.body);
    ExpectError(reply, c.code, c.words, c.param);
    EXPECT_THAT(reply.body, Not(HasSubstr(loras_.string()))) << c.body;
  }
  EXPECT_EQ(AnsweredBy("law"), "404");
}

TEST_F(LoraTest, IsOffUnlessFoldersAreNamedAndStandsAtTheOperatorsDoorAlone) {
  StartAdmin(/*with_folders=*/false);
  ExpectError(Load({{"lora_name", "law"}, {"lora_path", "law"}}), 403, "--lora-folders", "lora_path");
  EXPECT_EQ(Post("/v1/load_lora_adapter", {{"lora_name", "law"}, {"lora_path", "law"}}).code, 404);
  EXPECT_EQ(PostAdmin("/v1/completions", {{"prompt", "a"}}).code, 404);
  HttpClient admin(gateway_->server->admin_http_port());
  EXPECT_EQ(admin.Get("/health").code, 200);
  EXPECT_EQ(admin.Get("/v1/load_lora_adapter").code, 405);
  EXPECT_EQ(Unload({{"lora_name", "math"}}).code, 200);
}

}  // namespace
}  // namespace coterie::gateway::testing
