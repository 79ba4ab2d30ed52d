#include "model/publishing/read_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "model/lora/lora_adapter.h"
#include "model/publishing/gguf_adapter.h"
#include "tests/model/format/expect_refused.h"
#include "tests/model/publishing/plain_folder.h"
#include "tests/testing/seed.h"

namespace coterie {
namespace {

namespace fs = std::filesystem;
using testing::AsBytes;
using ::testing::Contains;
using ::testing::ElementsAre;
using testing::GgufAdapter;
using ::testing::HasSubstr;
using testing::SafetensorsWriter;
using testing::TempFolder;
using testing::TinyAdapter;
using testing::TinyAdapterJson;
using testing::TinyConfig;
using testing::WritePlain;

// What computes, whatever the form it came in.
Digest DigestOf(const FolderContent& content) {
  if (!content.config.has_value() || !content.weights.has_value()) return {};
  const auto adapter = LoraAdapter::Parse(*content.config, AsBytes(*content.weights), "read", TinyConfig());
  EXPECT_TRUE(adapter.ok()) << adapter.status();
  return adapter.ok() ? (*adapter)->digest() : Digest();
}

FolderContent MustRead(const fs::path& path, const ModelConfig* base = nullptr) {
  std::vector<Status> problems;
  FolderContent content = ReadFolder(path, base, &problems);
  EXPECT_THAT(problems, ElementsAre());
  return content;
}

Status FirstProblem(const fs::path& path, const ModelConfig* base = nullptr) {
  std::vector<Status> problems;
  ReadFolder(path, base, &problems);
  return problems.empty() ? absl::OkStatus() : problems.front();
}

Digest PlainDigest() {
  const TempFolder folder;
  WritePlain(folder);
  return DigestOf(MustRead(folder.path()));
}

TEST(ReadFolderTest, AHuggingFaceCacheIsReadThroughItsLinksAndFromItsTop) {
  const TempFolder cache;
  const fs::path model = cache.path() / "models--org--My-LoRA";
  const std::string commit(40, 'c');
  fs::create_directories(model / "blobs");
  fs::create_directories(model / "refs");
  fs::create_directories(model / "snapshots" / commit);
  cache.Write("models--org--My-LoRA/blobs/aaaa", TinyAdapterJson());
  cache.Write("models--org--My-LoRA/blobs/bbbb", TinyAdapter().Weights().Bytes());
  cache.Write("models--org--My-LoRA/refs/main", commit);
  const fs::path snapshot = model / "snapshots" / commit;
  fs::create_symlink("../../blobs/aaaa", snapshot / "adapter_config.json");
  fs::create_symlink("../../blobs/bbbb", snapshot / "adapter_model.safetensors");
  for (const fs::path& path : {snapshot, model, model / ""}) {
    const FolderContent content = MustRead(path);
    EXPECT_EQ(DigestOf(content), PlainDigest());
    EXPECT_EQ(SuggestedName(content.folder), "my-lora");
  }
  // Two snapshots and no word which is meant.
  fs::create_directories(model / "snapshots" / std::string(40, 'd'));
  fs::remove(model / "refs/main");
  EXPECT_REFUSED(FirstProblem(model), absl::StatusCode::kNotFound, "name one of its snapshots");
  // A blob that was cleaned away.
  fs::remove(model / "blobs/bbbb");
  EXPECT_REFUSED(FirstProblem(snapshot), absl::StatusCode::kNotFound,
                 "adapter_model.safetensors is a symbolic link that leads nowhere");
}

TEST(ReadFolderTest, ExtraFilesOfTrainersArePassedOverAndNamed) {
  const TempFolder folder;
  WritePlain(folder);
  for (const char* file :
       {"README.md", "optimizer.pt", "tokenizer.json", "training_args.bin", "adapter_model.bin"}) {
    folder.Write(file, "x");
  }
  fs::create_directories(folder.path() / "checkpoint-100");
  const FolderContent content = MustRead(folder.path());
  EXPECT_EQ(DigestOf(content), PlainDigest());
  EXPECT_THAT(content.notes,
              Contains("passed over: README.md, adapter_model.bin, checkpoint-100, optimizer.pt, "
                       "tokenizer.json, training_args.bin"));
}

TEST(ReadFolderTest, OldConfigurationsThatNameNoModulesTakeThoseOfTheWeights) {
  for (const char* targets : {"", ", \"target_modules\": null"}) {
    const TempFolder folder;
    WritePlain(folder);
    folder.Write("adapter_config.json", absl::StrCat("{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4, "
                                                     "\"enable_lora\": null, \"merge_weights\": false",
                                                     targets, "}"));
    const FolderContent content = MustRead(folder.path());
    EXPECT_EQ(DigestOf(content), PlainDigest());
    EXPECT_THAT(content.notes, Contains(HasSubstr("taken: down_proj, q_proj")));
  }
}

// The tensors of `weights`, the first half and the second, as two files.
void WriteShards(const TempFolder& folder, bool with_index) {
  const std::string whole = TinyAdapter().Weights().Bytes();
  const auto file = SafetensorsFile::Parse(AsBytes(whole), "whole").value();
  std::string map;
  for (const bool second : {false, true}) {
    SafetensorsWriter shard;
    const std::string name = absl::StrCat("adapter_model-0000", second ? 2 : 1, "-of-00002.safetensors");
    for (size_t i = 0; i < file.tensors().size(); ++i) {
      const TensorView& tensor = file.tensors()[i];
      if ((i >= file.tensors().size() / 2) != second) continue;
      shard.Add(tensor.name, DTypeName(tensor.dtype), tensor.shape,
                {reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()});
      absl::StrAppend(&map, map.empty() ? "" : ", ", "\"", tensor.name, "\": \"", name, "\"");
    }
    folder.Write(name, shard.Bytes());
  }
  if (with_index) {
    folder.Write("adapter_model.safetensors.index.json",
                 absl::StrCat("{\"metadata\": {\"total_size\": 1}, \"weight_map\": {", map, "}}"));
  }
}

TEST(ReadFolderTest, ShardsAreJoinedWithTheirIndexAndWithout) {
  for (const bool with_index : {true, false}) {
    const TempFolder folder;
    folder.Write("adapter_config.json", TinyAdapterJson());
    WriteShards(folder, with_index);
    const FolderContent content = MustRead(folder.path());
    EXPECT_EQ(DigestOf(content), PlainDigest());
    EXPECT_THAT(content.notes, ElementsAre("the weights were joined from their shards"));
    fs::remove(folder.path() / "adapter_model-00002-of-00002.safetensors");
    EXPECT_REFUSED(FirstProblem(folder.path()), absl::StatusCode::kNotFound,
                   with_index ? "00002" : "shard 2 of 2");
  }
  const TempFolder strange;
  strange.Write("adapter_config.json", TinyAdapterJson());
  strange.Write("adapter_model-part.safetensors", "x");
  EXPECT_REFUSED(FirstProblem(strange.path()), kInvalid, "fetch the index as well");
}

TEST(ReadFolderTest, APickleIsRefusedWithTheCommandThatConvertsIt) {
  for (const char* name : {"adapter_model.bin", "adapter_model-00001-of-00002.bin"}) {
    const TempFolder folder;
    folder.Write("adapter_config.json", TinyAdapterJson());
    folder.Write(name, "\x80\x02}q");
    const Status status = FirstProblem(folder.path());
    EXPECT_REFUSED(status, kUnimplemented, "a Python pickle and can run code");
    EXPECT_REFUSED(status, kUnimplemented, absl::StrCat("cd '", folder.path().string(), "' && python3 -c '"));
    EXPECT_REFUSED(status, kUnimplemented, "weights_only=True");
  }
}

TEST(ReadFolderTest, WhatIsNoAdapterAtAllIsToldApart) {
  const TempFolder folder;
  EXPECT_REFUSED(FirstProblem(folder.path()), absl::StatusCode::kNotFound, "it is empty");
  fs::create_directories(folder.path() / "my-adapter");
  folder.Write("my-adapter/adapter_config.json", TinyAdapterJson());
  EXPECT_REFUSED(FirstProblem(folder.path()), absl::StatusCode::kNotFound, "my-adapter: publish that");
  EXPECT_REFUSED(FirstProblem(folder.path() / "my-adapter"), absl::StatusCode::kNotFound,
                 "has no adapter_model.safetensors; it holds adapter_config.json");
  EXPECT_REFUSED(FirstProblem(folder.path() / "nowhere"), absl::StatusCode::kNotFound, "no folder ");
}

TEST(ReadFolderTest, AGgufAdapterComputesTheSameAsThePeftOneItWasMadeOf) {
  const ModelConfig base = TinyConfig();
  // The converter writes F32, so the original is held in F32, too.
  GgufAdapter gguf;
  const TempFolder folder;
  const fs::path file = folder.Write("My Adapter.gguf", gguf.Write().Bytes());
  const Digest from_folder = DigestOf(MustRead(folder.path(), &base));
  const FolderContent from_file = MustRead(file, &base);
  EXPECT_EQ(DigestOf(from_file), from_folder);
  EXPECT_EQ(SuggestedName(from_file.folder), "myadapter");

  SafetensorsWriter plain;
  const std::string weights = TinyAdapter().Weights().Bytes();
  const auto parsed = SafetensorsFile::Parse(AsBytes(weights), "w").value();
  for (const TensorView& tensor : parsed.tensors()) {
    plain.AddF32(tensor.name, tensor.shape, GgufAdapter::Floats(tensor));
  }
  FolderContent original;
  original.config = TinyAdapterJson();
  original.weights = plain.Bytes();
  EXPECT_EQ(from_folder, DigestOf(original));
  EXPECT_FALSE(from_folder.empty());
  // Other architectures keep PEFT's order and need no base.
  gguf.base = TinyConfig(Architecture::kQwen3);
  const TempFolder qwen;
  qwen.Write("a.gguf", gguf.Write().Bytes());
  EXPECT_EQ(DigestOf(MustRead(qwen.path())), from_folder);
}

TEST(ReadFolderTest, GgufFilesThatAreNoSuchAdapterAreRefusedWithAllThatIsWrong) {
  const TempFolder folder;
  const fs::path without_base = folder.Write("a.gguf", GgufAdapter().Write().Bytes());
  EXPECT_REFUSED(FirstProblem(without_base), kPrecondition, "name the base with --base");
  EXPECT_REFUSED(FirstProblem(folder.Write("none.gguf", "GGUF")), absl::StatusCode::kOutOfRange, "none.gguf");
  EXPECT_REFUSED(FirstProblem(folder.path()), kInvalid, "2 GGUF files, a.gguf, none.gguf");

  testing::GgufWriter writer;
  writer.AddString("general.type", "model")
      .AddString("general.architecture", "gpt2")
      .AddString("adapter.type", "control_vector")
      .AddArray<uint32_t>("adapter.alora.invocation_tokens", GgufType::kU32, {1});
  writer.AddF32Tensor("blk.0.attn_q.weight.lora_a", {2, 8}, std::vector<float>(16, 1));
  writer.AddF32Tensor("token_embd.weight.lora_a", {2, 8}, std::vector<float>(16, 1));
  writer.AddF32Tensor("blk.0.ffn_up.weight.lora_a", {2, 8}, std::vector<float>(16, 1));
  writer.AddF32Tensor("blk.0.ffn_up.weight.lora_b", {12, 3}, std::vector<float>(36, 1));
  const fs::path wrong = folder.Write("wrong.gguf", writer.Bytes());
  std::vector<Status> problems;
  ReadFolder(wrong, nullptr, &problems);
  std::string all;
  for (const Status& problem : problems) absl::StrAppend(&all, problem.message(), "\n");
  for (const char* words :
       {"general.type is \"model\"", "adapter.type is \"control_vector\"", "general.architecture is \"gpt2\"",
        "adapter.alora.invocation_tokens", "adapter.lora.alpha", "token_embd.weight.lora_a",
        "attn_q.weight.lora_a\" has no lora_b", "differ in their rank, 2 and 3"}) {
    EXPECT_THAT(all, HasSubstr(words));
  }
  ModelConfig other = TinyConfig();
  other.n_heads = 4;
  other.n_kv_heads = 2;
  EXPECT_REFUSED(FirstProblem(without_base, &other), kPrecondition, "has 8 rows, the base has 4 heads of 4");
}

// Bytes flipped, cut off or put in anywhere: read whole or refused, and what is read is what a server checks.
TEST(ReadFolderTest, DamagedGgufAdaptersAreReadOrRefused) {
  std::mt19937 random(testing::TestSeed());
  const std::string whole = GgufAdapter().Write().Bytes();
  const ModelConfig base = TinyConfig();
  const TempFolder folder;
  size_t refused = 0;
  for (int i = 0; i < 300; ++i) {
    std::string damaged = whole;
    const size_t at = random() % damaged.size();
    switch (random() % 3) {
      case 0:
        damaged[at] = static_cast<char>(random());
        break;
      case 1:
        damaged.resize(at);
        break;
      default:
        damaged.insert(at, 1 + random() % 8, static_cast<char>(random()));
    }
    std::vector<Status> problems;
    const FolderContent content = ReadFolder(folder.Write("damaged.gguf", damaged), &base, &problems);
    EXPECT_EQ(problems.empty(), content.weights.has_value());
    refused += problems.empty() ? 0 : 1;
    if (content.weights.has_value()) {
      LoraAdapter::Parse(*content.config, AsBytes(*content.weights), "read", base).status().IgnoreError();
    }
  }
  EXPECT_GT(refused, 100u);
}

TEST(ReadFolderTest, PatternKeysThatDecideForNoModuleAreNoted) {
  const TempFolder folder;
  testing::WritePlain(folder, R"("rank_pattern": {"q_proj": 2, "1.self_attn.q_proj": 2, "layers.7.mlp": 4},
                                 "alpha_pattern": {"(q|down)_proj": 3, "k_proj": 8})");
  std::vector<Status> problems;
  const FolderContent content = ReadFolder(folder.path(), nullptr, &problems);
  EXPECT_THAT(problems, ElementsAre());
  const auto note = [](std::string_view key) {
    return std::string(key) + " decides for none of the 4 adapted modules; was it meant for another name?";
  };
  EXPECT_THAT(content.notes,
              ElementsAre(note("rank_pattern \"1.self_attn.q_proj\""), note("rank_pattern \"layers.7.mlp\""),
                          note("alpha_pattern \"k_proj\"")));
}

TEST(ReadFolderTest, NamesOfFoldersBecomeNamesOfExperts) {
  EXPECT_EQ(SuggestedName("/x/My LoRA (v2)"), "mylorav2");
  EXPECT_EQ(SuggestedName("/x/base"), "my-base");
  EXPECT_EQ(SuggestedName("/x/___"), "my-expert");
  EXPECT_EQ(SuggestedName("/x/" + std::string(100, 'a')), std::string(64, 'a'));
}

}  // namespace
}  // namespace coterie
