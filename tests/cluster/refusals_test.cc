// Every refusal that somebody who publishes can meet, from a broken folder through the real command and the
// real gateway: each names the thing, the value, the limit or what to do; says nothing of the server's paths;
// is printable UTF-8; and has the exit code that tells a script not to try again.
#include <sys/stat.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/utf8.h"
#include "tests/cluster/cluster_fixture.h"

namespace coterie::cluster {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr int kRefused = 4;
void WriteAll(const fs::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

std::string Safetensors(const std::string& header, size_t n_data) {
  const uint64_t n = header.size();
  return std::string(reinterpret_cast<const char*>(&n), sizeof(n)) + header + std::string(n_data, '\0');
}

std::string Prototypes(const std::vector<float>& row, const std::string& name = "prototypes") {
  return Replaced(PrototypesFile(row), "prototypes", name);
}

class RefusalsTest : public ClusterTest {
 protected:
  void SetUp() override {
    ClusterTest::SetUp();
    worker_ = StartWorker("w0");
    gateway_ = StartGateway({worker_->address()});
    folder_ = store().parent_path() / "good";
    const fs::path adapter = fs::path(COTERIE_SOURCE_DIR) / "tests/data/tiny-adapters/llama-qv";
    fs::create_directories(folder_);
    for (const char* file : {"adapter_config.json", "adapter_model.safetensors"}) {
      fs::copy_file(adapter / file, folder_ / file);
    }
    WriteAll(folder_ / "expert.yaml", kCard);
    std::vector<float> axis(kEmbeddingDim, 0);
    axis[0] = 1;
    WriteAll(folder_ / "prototypes.safetensors", Prototypes(axis));
  }
  void TearDown() override {
    gateway_.reset();
    worker_.reset();
    ClusterTest::TearDown();
  }

  struct Outcome {
    int exit_code;
    std::string error;
  };
  Outcome Publish(const fs::path& folder, std::vector<std::string> more = {}) {
    std::vector<std::string> args = {"experts", "publish", folder.string(),
                                     absl::StrCat("--admin=127.0.0.1:", gateway_->admin_port)};
    args.insert(args.end(), more.begin(), more.end());
    Process process("coterie", args);
    const int exit_code = process.Wait();
    return {exit_code, process.Errors()};
  }

  // A copy of the good folder, under a name that no server path holds.
  fs::path Copy(const std::string& name) {
    const fs::path copy = store().parent_path() / name;
    fs::remove_all(copy);
    fs::copy(folder_, copy, fs::copy_options::recursive);
    return copy;
  }

  // What holds for every message whatever it is about.
  void ExpectFitToRead(const std::string& message) {
    EXPECT_THAT(message, Not(HasSubstr(store().string())));
    EXPECT_THAT(message, Not(HasSubstr("staging")));
    EXPECT_EQ(message, Printable(message)) << "not printable UTF-8";
    EXPECT_GT(message.size(), 20u) << message;
    EXPECT_LT(message.size(), 1200u) << message;
    for (const absl::string_view line : absl::StrSplit(message, '\n')) {
      EXPECT_LT(line.size(), 900u) << message;
    }
  }

  static constexpr char kCard[] = "name: good\nversion: \"1\"\ndescription: the good one\n";
  std::unique_ptr<WorkerProcess> worker_;
  std::unique_ptr<GatewayProcess> gateway_;
  fs::path folder_;
};

// A way to break a folder, and the words that its refusal must have: the thing, the value or what is there,
// and the limit or what to do.
struct Broken {
  const char* what;
  std::function<void(const fs::path&)> how;
  std::vector<std::string> words;
};

std::function<void(const fs::path&)> File(const std::string& file, const std::string& content) {
  return [=](const fs::path& folder) { WriteAll(folder / file, content); };
}
std::function<void(const fs::path&)> Edit(const std::string& file, const std::string& from,
                                          const std::string& to) {
  return [=](const fs::path& folder) { WriteAll(folder / file, Replaced(ReadAll(folder / file), from, to)); };
}
std::function<void(const fs::path&)> Renamed(const std::string& file, const std::string& to) {
  return [=](const fs::path& folder) { fs::rename(folder / file, folder / to); };
}
std::function<void(const fs::path&)> CardLine(const std::string& line) {
  return [=](const fs::path& folder) {
    WriteAll(folder / "expert.yaml", ReadAll(folder / "expert.yaml") + line + "\n");
  };
}
// Renames tensors, whose new names are as long as the old.
std::function<void(const fs::path&)> Tensors(const std::string& from, const std::string& to) {
  return [=](const fs::path& folder) {
    std::string file = ReadAll(folder / "adapter_model.safetensors");
    uint64_t n_header = 0;
    std::copy_n(file.data(), sizeof(n_header), reinterpret_cast<char*>(&n_header));
    ASSERT_EQ(from.size(), to.size());
    for (size_t at = file.find(from); at < 8 + n_header; at = file.find(from, at + 1))
      file.replace(at, from.size(), to);
    WriteAll(folder / "adapter_model.safetensors", file);
  };
}

constexpr char kWeights[] = "adapter_model.safetensors";
constexpr char kConfig[] = "adapter_config.json";
constexpr char kCardFile[] = "expert.yaml";
constexpr char kPrototypes[] = "prototypes.safetensors";
constexpr char kPointer[] =
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
constexpr char kPage[] =
    "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>: - [</body></html>\n";

// What stands in a file's place whatever the file.
std::vector<Broken> InPlaceOf(const std::string& file) {
  return {
      {"a Git LFS pointer", File(file, kPointer), {file, "Git LFS pointer", "12345", "git lfs pull"}},
      {"a web page", File(file, kPage), {file, "web page", "again"}},
      {"gzip", File(file, "\x1f\x8b\x08 and more"), {file, "gzip", "unpack"}},
      {"a ZIP archive", File(file, "PK\x03\x04 and more"), {file, "ZIP archive", "unpack"}},
      {"nothing", File(file, ""), {file, "empty"}},
      {"zeros", File(file, std::string(4096, '\0')), {file}},
      {"bytes that are no text", File(file, "\xff\xfe\xfd\x01\x02\x80\x80\x80"), {file}},
      {"a folder",
       [=](const fs::path& folder) {
         fs::remove(folder / file);
         fs::create_directory(folder / file);
       },
       {file, "is a folder, not a file"}},
      {"a pipe",
       [=](const fs::path& folder) {
         fs::remove(folder / file);
         ASSERT_EQ(mkfifo((folder / file).c_str(), 0644), 0);
       },
       {file, "pipe"}},
      {"a link that leads nowhere",
       [=](const fs::path& folder) {
         fs::remove(folder / file);
         fs::create_symlink("nowhere", folder / file);
       },
       {file, "No such file"}},
  };
}

std::vector<Broken> BrokenFolders() {
  std::vector<Broken> all = {
      // What is in the folder.
      {"a pickle",
       Renamed(kWeights, "adapter_model.bin"),
       {kWeights, "adapter_model.bin", "pickle", "save_pretrained", "python3 -c", "weights_only=True"}},
      {"shards that their index does not name",
       [](const fs::path& folder) {
         Renamed(kWeights, "adapter_model-00001-of-00002.safetensors")(folder);
         WriteAll(folder / "adapter_model.safetensors.index.json", "{}");
       },
       {"index.json", "weight_map"}},
      {"one shard",
       Renamed(kWeights, "adapter_model-00001-of-00002.safetensors"),
       {"00001-of-00002", "sharded", "shard 2 of 2 is missing"}},
      {"MLX", Renamed(kWeights, "adapters.safetensors"), {"adapters.safetensors", "MLX", "convert"}},
      {"no weights",
       [](const fs::path& folder) { fs::remove(folder / kWeights); },
       {kWeights, "it holds adapter_config.json"}},
      {"no configuration",
       [](const fs::path& folder) { fs::remove(folder / kConfig); },
       {kConfig, "save_pretrained"}},
      {"a plain PEFT folder",
       [](const fs::path& folder) {
         fs::remove(folder / kCardFile);
         fs::remove(folder / kPrototypes);
       },
       {"plain PEFT", kCardFile, kPrototypes, "docs/expert-format.md", "--description", "--examples",
        "name: broken", "version: \"1\"", "description:"}},
      {"no prototypes",
       [](const fs::path& folder) { fs::remove(folder / kPrototypes); },
       {kPrototypes, "docs/expert-format.md"}},
      {"no card",
       [](const fs::path& folder) { fs::remove(folder / kCardFile); },
       {kCardFile, "docs/expert-format.md", "name: broken"}},
      {"a card of another ending", Renamed(kCardFile, "expert.yml"), {"expert.yml", "rename"}},
      // The configuration.
      {"no JSON", File(kConfig, "{\"r\": 4,"), {kConfig, "not JSON"}},
      {"an error message",
       File(kConfig, "{\"error\":\"Repository not found\"}"),
       {kConfig, "Repository not found", "fetch it again"}},
      {"a list", File(kConfig, "[1]"), {kConfig, "[1]", "JSON object"}},
      {"DoRA", Edit(kConfig, "\"use_dora\": false", "\"use_dora\": true"), {"use_dora", "true", "train"}},
      {"lora_bias",
       Edit(kConfig, "\"lora_bias\": false", "\"lora_bias\": true"),
       {"lora_bias", "true", "train"}},
      {"bias", Edit(kConfig, "\"bias\": \"none\"", "\"bias\": \"all\""), {"bias", "all", "none"}},
      {"PiSSA",
       Edit(kConfig, "\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa\""),
       {"init_lora_weights", "pissa", "convert"}},
      {"modules_to_save",
       Edit(kConfig, "\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]"),
       {"modules_to_save", "lm_head", "train"}},
      {"an unknown field", Edit(kConfig, "{", "{\"warp\": 9,"), {"warp", "9", "not known"}},
      {"no LoRA", Edit(kConfig, "\"LORA\"", "\"IA3\""), {"peft_type", "IA3", "LORA"}},
      {"another task", Edit(kConfig, "\"CAUSAL_LM\"", "\"SEQ_CLS\""), {"task_type", "SEQ_CLS", "CAUSAL_LM"}},
      {"a large rank", Edit(kConfig, "\"r\": 4", "\"r\": 4096"), {"\"r\"", "4096", "1024"}},
      {"a rank of nothing", Edit(kConfig, "\"r\": 4", "\"r\": 0"), {"\"r\"", "0", "1 to 1024"}},
      {"alpha that is no number",
       Edit(kConfig, "\"lora_alpha\": 8", "\"lora_alpha\": \"8\""),
       {"lora_alpha", "number"}},
      {"alpha 0", Edit(kConfig, "\"lora_alpha\": 8", "\"lora_alpha\": 0"), {"lora_alpha", "change nothing"}},
      {"lm_head",
       Edit(kConfig, "\"q_proj\",", "\"q_proj\", \"lm_head\","),
       {"target_modules", "lm_head", "q_proj"}},
      {"another architecture",
       Edit(kConfig, "\"q_proj\",", "\"query_key_value\","),
       {"target_modules", "query_key_value", "llama"}},
      {"a pattern",
       Edit(kConfig, "[\n    \"q_proj\",\n    \"v_proj\"\n  ]", "\"(q_proj\""),
       {"target_modules", "(q_proj"}},
      {"a layer too many",
       Edit(kConfig, "\"layers_to_transform\": null", "\"layers_to_transform\": [7]"),
       {"layers_to_transform", "7", "3 layers"}},
      {"twice", Edit(kConfig, "{", "{\"r\": 4,"), {"\"r\"", "twice"}},
      {"a large file", File(kConfig, "{\"a\":\"" + std::string(2 << 20, 'x') + "\"}"), {kConfig, "1048576"}},
      // The weights.
      {"truncated",
       [](const fs::path& folder) {
         fs::resize_file(folder / kWeights, fs::file_size(folder / kWeights) - 100);
       },
       {kWeights, "tensor", "bytes"}},
      {"cut in the header",
       [](const fs::path& folder) { fs::resize_file(folder / kWeights, 50); },
       {kWeights, "header", "50"}},
      {"a text", File(kWeights, "Entry not found"), {kWeights, "Entry not found", "fetch it again"}},
      {"a pickle of that name", File(kWeights, "\x80\x02}q\x01"), {kWeights, "pickle", "safetensors"}},
      {"a GGUF file", File(kWeights, std::string("GGUF\3\0\0\0", 8)), {kWeights, "GGUF"}},
      {"F64", Edit(kWeights, "\"F32\"", "\"F64\""), {kWeights}},
      {"another prefix",
       Tensors("base_model.model.model.", "base-model.model.model."),
       {"lora_A", "base-model", "save_pretrained"}},
      {"no tensor", File(kWeights, Safetensors("{}", 0)), {kWeights, "q_proj", "no tensor"}},
      {"a whole model",
       File(kWeights,
            Safetensors("{\"model.norm.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
                        4)),
       {"model.norm.weight", "whole model"}},
      {"MLX's names",
       [](const fs::path& folder) {
         Tensors(".lora_A.", ".lora_a.")(folder);
         Tensors(".lora_B.", ".lora_b.")(folder);
       },
       {"lora_A", "lora_a", "MLX", "convert"}},
      {"half a pair",
       Tensors("0.self_attn.q_proj.lora_A", "0.self_attn.q_proj.lora_C"),
       {"lora_A", "lora_B", "incomplete"}},
      {"another layer",
       Tensors("layers.2.self_attn.v_proj", "layers.9.self_attn.v_proj"),
       {"layers.2.self_attn.v_proj", "another base"}},
      {"too few targets", Edit(kConfig, "\"q_proj\",", ""), {"q_proj", "target_modules"}},
      // The card.
      {"an unknown field", CardLine("colour: red"), {kCardFile, "line 4", "colour", "known are name"}},
      {"nearly a field", CardLine("descripton: red"), {"descripton", "did you mean description"}},
      {"twice", CardLine("name: good"), {"line 4", "name", "twice"}},
      {"both spellings",
       CardLine("licence: MIT\nlicense: MIT"),
       {"line 5", "licence", "license", "two spellings"}},
      {"no description",
       File(kCardFile, "name: good\nversion: \"1\"\n"),
       {kCardFile, "description", "missing"}},
      {"a bad name",
       File(kCardFile, "name: Good One\nversion: \"1\"\ndescription: d\n"),
       {"Good One", "a-z"}},
      {"a reserved name",
       File(kCardFile, "name: base\nversion: \"1\"\ndescription: d\n"),
       {"base", "reserved"}},
      {"a text of bytes", CardLine("licence: \xff\xfe"), {kCardFile}},
      {"a key of bytes", CardLine("lic\xff\xfe: x"), {kCardFile}},
      {"a long key of wide characters",
       CardLine("größe" + std::string(100, 'x') + "äöü: 1"),
       {"größe", "unknown field"}},
      {"a large card",
       File(kCardFile, std::string(kCardFile) + std::string(70 << 10, ' ')),
       {kCardFile, "65536"}},
      {"a threshold", CardLine("thresholds: {min_score: 7}"), {"thresholds.min_score", "7", "from -1 to 1"}},
      {"another base",
       CardLine("base_digest: " + std::string(64, 'a')),
       {"base_digest", "aaaaaaaaaaaa", "served"}},
      {"deep", CardLine("training: [[[[[[[[[[[[1]]]]]]]]]]]]"), {kCardFile, "nested deeper than 8"}},
      {"no map", File(kCardFile, "just words"), {kCardFile, "map of fields", "docs/expert-format.md"}},
      {"a tag", CardLine("licence: !!python/object x"), {kCardFile, "line 4", "tag"}},
      // The prototypes.
      {"another dimension", File(kPrototypes, Prototypes({1, 0, 0})), {kPrototypes, "3", "32"}},
      {"no unit",
       File(kPrototypes, Prototypes(std::vector<float>(kEmbeddingDim, 1))),
       {kPrototypes, "norm", "want 1"}},
      {"NaN",
       File(kPrototypes, Prototypes(std::vector<float>(kEmbeddingDim, NAN))),
       {kPrototypes, "nan", "finite"}},
      {"another tensor",
       File(kPrototypes, Prototypes(std::vector<float>(kEmbeddingDim, 1), "directions")),
       {kPrototypes, "prototypes [n, dim]"}},
      {"many",
       File(
           kPrototypes,
           Safetensors("{\"prototypes\":{\"dtype\":\"F32\",\"shape\":[2000,32],\"data_offsets\":[0,256000]}}",
                       256000)),
       {kPrototypes, "2000", "1024"}},
  };
  for (const char* file : {kConfig, kWeights, kCardFile, kPrototypes}) {
    for (Broken& broken : InPlaceOf(file)) all.push_back(std::move(broken));
  }
  return all;
}

TEST_F(RefusalsTest, EveryBrokenFolderIsRefusedForGoodInWordsAStrangerUnderstands) {
  for (const Broken& broken : BrokenFolders()) {
    SCOPED_TRACE(broken.what);
    const fs::path folder = Copy("broken");
    broken.how(folder);
    const Outcome outcome = Publish(folder);
    EXPECT_EQ(outcome.exit_code, kRefused) << outcome.error;
    for (const std::string& words : broken.words) EXPECT_THAT(outcome.error, HasSubstr(words));
    ExpectFitToRead(outcome.error);
  }
  EXPECT_EQ(Generation(*gateway_), 0u) << "a broken folder was published";
}

TEST_F(RefusalsTest, AFolderMayBeWrittenInAnyWayAndGoesByItsCardsName) {
  const fs::path parent = folder_.parent_path();
  fs::create_symlink(folder_, parent / "a-link");
  const fs::path snapshot = parent / "models--org--Some-LoRA/snapshots" / std::string(40, 'a');
  fs::create_directories(snapshot);
  for (const auto& entry : fs::directory_iterator(folder_)) {
    fs::create_symlink(entry.path(), snapshot / entry.path().filename());  // as the cache does
  }
  const fs::path bytes = parent / "no utf-8 \xff\xfe";
  fs::create_symlink(folder_, bytes);
  for (const fs::path& folder :
       {folder_, folder_ / "", folder_ / ".", folder_ / ".." / "good", folder_ / "./", parent / "a-link",
        parent / "a-link" / "", snapshot, snapshot / "", bytes}) {
    const Outcome outcome = Publish(folder);
    EXPECT_EQ(outcome.exit_code, 0) << folder << ": " << outcome.error;
    EXPECT_EQ(outcome.error, Printable(outcome.error));
  }
  EXPECT_EQ(Generation(*gateway_), 1u) << "one expert, published once";
  // From inside the folder.
  const fs::path here = fs::current_path();
  fs::current_path(folder_);
  const Outcome inside = Publish(".");
  fs::current_path(folder_ / "..");
  const Outcome relative = Publish("./good/");
  fs::current_path(here);
  EXPECT_EQ(inside.exit_code, 0) << inside.error;
  EXPECT_EQ(inside.error, "");
  EXPECT_EQ(relative.exit_code, 0) << relative.error;

  const Outcome other = Publish(folder_, {"--name=other"});
  EXPECT_EQ(other.exit_code, kRefused);
  EXPECT_THAT(other.error, HasSubstr("the card names expert good, the request publishes \"other\""));
  const Outcome copied = Publish(Copy("copied"));
  EXPECT_EQ(copied.exit_code, 0) << copied.error;
  EXPECT_THAT(copied.error, HasSubstr("names the expert good"));
  const Outcome nowhere = Publish(parent / "nowhere");
  EXPECT_EQ(nowhere.exit_code, kRefused);
  EXPECT_THAT(nowhere.error, HasSubstr("no folder "));
  const Outcome file = Publish(folder_ / "expert.yaml");
  EXPECT_EQ(file.exit_code, kRefused);
  EXPECT_THAT(file.error, HasSubstr("is no folder; name the folder that holds"));
}

TEST_F(RefusalsTest, LicensesAreReadInBothSpellings) {
  WriteAll(folder_ / "expert.yaml", std::string(kCard) + "license: mit\nbase_model: org/base\n");
  const Outcome outcome = Publish(folder_);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.error;
  grpc::ClientContext context;
  v1::GetExpertRequest request;
  request.set_name("good");
  v1::GetExpertResponse response;
  ASSERT_TRUE(gateway_->experts->Get(&context, request, &response).ok());
  EXPECT_EQ(response.expert().licence(), "mit");
}

// Damage that nobody thought of: bytes flipped, cut out, doubled or put in, at places drawn by a fixed seed.
TEST_F(RefusalsTest, DamageAnywhereIsPublishedWholeOrRefusedForGood) {
  constexpr int kRounds = 400;
  std::mt19937 random(7);
  const auto draw = [&random](size_t n) { return static_cast<size_t>(random() % n); };
  std::map<std::string, std::string> good;
  for (const char* file : {kConfig, kWeights, kCardFile, kPrototypes}) good[file] = ReadAll(folder_ / file);
  int refused = 0;
  for (int round = 0; round < kRounds; ++round) {
    auto files = good;
    auto victim = std::next(files.begin(), static_cast<std::ptrdiff_t>(draw(files.size())));
    std::string& bytes = victim->second;
    // The beginning of a binary file is where its structure stands.
    const size_t at = draw(2) == 0 ? draw(std::min<size_t>(bytes.size(), 600)) : draw(bytes.size());
    const size_t n = std::min(1 + draw(16), bytes.size() - at);
    switch (draw(5)) {
      case 0:
        for (size_t i = 0; i < n; ++i) bytes[at + i] = static_cast<char>(random());
        break;
      case 1:
        bytes.erase(at, n);
        break;
      case 2:
        bytes.insert(at, bytes.substr(at, n));
        break;
      case 3:
        bytes.resize(at);
        break;
      default:
        bytes.insert(at, "\xff\x1b[31m\xc3");
    }
    SCOPED_TRACE(absl::StrCat("round ", round, ", ", victim->first));
    v1::PublishExpertResponse response;
    const grpc::Status status = Send(*gateway_, "", {files.begin(), files.end()}, 0, &response);
    if (status.ok()) continue;
    ++refused;
    const grpc::StatusCode code = status.error_code();
    EXPECT_TRUE(code == grpc::StatusCode::INVALID_ARGUMENT || code == grpc::StatusCode::FAILED_PRECONDITION ||
                code == grpc::StatusCode::OUT_OF_RANGE || code == grpc::StatusCode::UNIMPLEMENTED)
        << code << ": " << status.error_message();
    ExpectFitToRead(status.error_message());
    const bool names_file = status.error_message().find("adapter") != std::string::npos ||
                            status.error_message().find("expert") != std::string::npos ||
                            status.error_message().find("prototypes") != std::string::npos;
    EXPECT_TRUE(names_file) << status.error_message();
  }
  EXPECT_GT(refused, kRounds / 2);
}

}  // namespace
}  // namespace coterie::cluster
