// What the fast mode loses: KL divergence and agreement of its next-token distributions with the exact
// mode's, on every position of a text, for each candidate way of computing. Prints one line of JSON per
// candidate. Of a base of floats (tests/bench/float_base.py) the candidates are the ways to hold its weights.
//
//   bench_numerics MODEL.gguf tests/golden/base_logits.bin
//   bench_numerics MODEL.gguf TEXT... [--windows=N] [--window=TOKENS] [--adapter=FOLDER]
//
// With an adapter, both sides of every comparison serve it.
// From a golden file come its token ids, one sequence per text. Other texts are tokenised with the model's
// own tokenizer and cut into windows; each window is one sequence.
#include <cmath>
#include <cstdio>
#include <string>

#include "common/file.h"
#include "model/decoder/decoder.h"
#include "model/text/gguf_tokenizer.h"
#include "tests/bench/harness.h"
#include "tests/golden/golden_arrays.h"
#include "tests/model/decoder/sequences.h"

namespace coterie {
namespace {

struct Candidate {
  const char* name;
  CpuBackendOptions options;
  std::optional<DType> float_weights = std::nullopt;
};

// A decoder and what it serves: the base alone, or one adapter.
struct Served {
  std::unique_ptr<Decoder> decoder;
  std::unique_ptr<LoadedAdapter> adapter;  // or null
};

StatusOr<std::vector<float>> Logits(const Served& served, const std::vector<int32_t>& tokens) {
  testing::TestSequence sequence;
  if (served.adapter != nullptr) {
    served.decoder->adapter_slots().Fill(0, served.adapter->packed);
    sequence.adapter_slots = {0};
    sequence.weights = {1.0f};
  }
  sequence.tokens = tokens;
  sequence.UseBlocks(0, static_cast<int>(tokens.size()));
  Batch batch;
  batch.Clear();
  testing::AddToBatch(&sequence, static_cast<int>(tokens.size()), testing::LogitRows::kAll, &batch);
  ASSIGN_OR_RETURN(const std::span<const float> logits, testing::RunForLogits(served.decoder.get(), &batch));
  return std::vector<float>(logits.begin(), logits.end());
}

// log of the sum of exponentials, in float64.
double LogSum(std::span<const float> row) {
  double largest = row[0];
  for (float v : row) largest = std::max<double>(largest, v);
  double sum = 0;
  for (float v : row) sum += std::exp(static_cast<double>(v) - largest);
  return largest + std::log(sum);
}

struct Divergence {
  double kl_sum = 0, kl_max = 0;
  double loss_reference = 0, loss = 0;  // nats, of the text's own next tokens
  int64_t same_top = 0, n = 0, n_loss = 0;

  void Add(std::span<const float> reference, std::span<const float> other, int32_t next) {
    const double p_log = LogSum(reference);
    const double q_log = LogSum(other);
    double kl = 0;
    size_t p_top = 0, q_top = 0;
    for (size_t i = 0; i < reference.size(); ++i) {
      const double p = reference[i] - p_log;
      kl += std::exp(p) * (p - (other[i] - q_log));
      if (reference[i] > reference[p_top]) p_top = i;
      if (other[i] > other[q_top]) q_top = i;
    }
    kl_sum += kl;
    kl_max = std::max(kl_max, kl);
    same_top += p_top == q_top;
    ++n;
    if (next >= 0) {
      loss_reference -= reference[static_cast<size_t>(next)] - p_log;
      loss -= other[static_cast<size_t>(next)] - q_log;
      ++n_loss;
    }
  }
};

StatusOr<Served> Serve(const ModelFiles& files, const Candidate& candidate, int window,
                       const std::string& adapter) {
  ASSIGN_OR_RETURN(std::unique_ptr<DecoderOps> backend, CreateCpuDecoderOps(candidate.options));
  DecoderOptions decoder_options;
  decoder_options.float_weights = candidate.float_weights;
  decoder_options.n_kv_blocks = KvBlocksFor(window);
  decoder_options.max_batch_tokens = window;
  decoder_options.max_logit_rows = window;
  decoder_options.max_seqs = 1;
  Served served;
  ASSIGN_OR_RETURN(served.decoder, Decoder::Create(files, std::move(backend), decoder_options));
  if (!adapter.empty()) {
    ASSIGN_OR_RETURN(served.adapter, served.decoder->LoadAdapter(adapter));
  }
  return served;
}

StatusOr<std::vector<std::vector<int32_t>>> GoldenSequences(const std::string& path) {
  ASSIGN_OR_RETURN(auto arrays, testing::ReadGoldenArrays(path));
  std::vector<std::vector<int32_t>> sequences;
  for (const auto& [name, array] : arrays) {
    if (!name.ends_with(".ids") || array.type != 2) continue;
    const std::vector<uint16_t> ids = array.As<uint16_t>();
    sequences.emplace_back(ids.begin(), ids.end());
  }
  return sequences;
}

// Windows in turn from every text, so that few windows still are varied text.
StatusOr<std::vector<std::vector<int32_t>>> TextWindows(const ModelFiles& files,
                                                        const std::vector<std::string>& texts, int window,
                                                        int64_t max_windows) {
  ASSIGN_OR_RETURN(std::shared_ptr<const Tokenizer> tokenizer, LoadTokenizer(*files.gguf()));
  std::vector<std::vector<int32_t>> per_text;
  for (const std::string& path : texts) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(path, 64 << 20));
    ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                     tokenizer->Encode(std::string_view(text).substr(0, 1 << 20), {}));
    per_text.push_back(std::move(ids));
  }
  std::vector<std::vector<int32_t>> windows;
  for (size_t round = 0; static_cast<int64_t>(windows.size()) < max_windows; ++round) {
    bool any = false;
    for (const std::vector<int32_t>& ids : per_text) {
      const size_t begin = round * static_cast<size_t>(window);
      if (begin + static_cast<size_t>(window) > ids.size()) continue;
      any = true;
      windows.emplace_back(ids.begin() + static_cast<int64_t>(begin),
                           ids.begin() + static_cast<int64_t>(begin) + window);
      if (static_cast<int64_t>(windows.size()) == max_windows) break;
    }
    if (!any) break;
  }
  return windows;
}

struct Flags {
  std::string model;
  std::vector<std::string> texts;
  int window = 256;
  int64_t max_windows = 12;
  std::string adapter;
};

Status Run(const Flags& flags) {
  const std::vector<std::string>& texts = flags.texts;
  int window = flags.window;
  ASSIGN_OR_RETURN(std::unique_ptr<ModelFiles> files, ModelFiles::Open(flags.model));
  if (files->gguf() == nullptr) return absl::InvalidArgumentError("the model must be a GGUF file");
  std::vector<std::vector<int32_t>> windows;
  if (texts.size() == 1 && texts[0].ends_with(".bin")) {
    ASSIGN_OR_RETURN(windows, GoldenSequences(texts[0]));
  } else {
    ASSIGN_OR_RETURN(windows, TextWindows(*files, texts, window, flags.max_windows));
  }
  if (windows.empty()) return absl::InvalidArgumentError("no text is as long as one window");
  for (const std::vector<int32_t>& tokens : windows)
    window = std::max(window, static_cast<int>(tokens.size()));

  std::vector<Candidate> candidates = {
      {"fast, KV f32", {.mode = NumericsMode::kFast, .kv_dtype = DType::kF32}},
      {"fast, KV bf16", {.mode = NumericsMode::kFast, .kv_dtype = DType::kBF16}},
      {"fast, KV f16", {.mode = NumericsMode::kFast, .kv_dtype = DType::kF16}},
      {"exact, KV bf16", {.mode = NumericsMode::kExact, .kv_dtype = DType::kBF16}},
      {"exact, KV f16", {.mode = NumericsMode::kExact, .kv_dtype = DType::kF16}},
  };
  const DType type = files->Get(WeightRole::kDown).tensor.dtype;
  if (BlockElements(type) == 1) {  // what rounding at load costs by itself, and as it is served
    candidates = {{"exact, weights q8_0", {.mode = NumericsMode::kExact}, DType::kQ8_0},
                  {"exact, weights q4_1", {.mode = NumericsMode::kExact}, DType::kQ4_1},
                  {"fast, weights as-is", {.mode = NumericsMode::kFast}},
                  {"fast, weights q8_0", {.mode = NumericsMode::kFast}, DType::kQ8_0},
                  {"fast, weights q4_1", {.mode = NumericsMode::kFast}, DType::kQ4_1}};
  }
  ASSIGN_OR_RETURN(const Served reference,
                   Serve(*files, {"exact", {.mode = NumericsMode::kExact}}, window, flags.adapter));
  std::vector<Served> decoders;
  for (const Candidate& candidate : candidates) {
    ASSIGN_OR_RETURN(Served served, Serve(*files, candidate, window, flags.adapter));
    decoders.push_back(std::move(served));
  }
  std::vector<Divergence> results(decoders.size());
  const size_t vocab = static_cast<size_t>(reference.decoder->info().vocab_size);
  for (const std::vector<int32_t>& tokens : windows) {
    ASSIGN_OR_RETURN(const std::vector<float> expected, Logits(reference, tokens));
    for (size_t c = 0; c < decoders.size(); ++c) {
      ASSIGN_OR_RETURN(const std::vector<float> actual, Logits(decoders[c], tokens));
      for (size_t t = 0; t < tokens.size(); ++t) {
        results[c].Add({expected.data() + t * vocab, vocab}, {actual.data() + t * vocab, vocab},
                       t + 1 < tokens.size() ? tokens[t + 1] : -1);
      }
    }
  }
  for (size_t c = 0; c < results.size(); ++c) {
    const Divergence& r = results[c];
    std::printf(
        "{\"candidate\": \"%s\", \"class\": \"%s\", \"positions\": %lld, \"kl_mean_nats\": %.6f, "
        "\"kl_max_nats\": %.4f, \"same_top1_ratio\": %.4f, \"loss_reference_nats\": %.5f, \"loss_nats\": "
        "%.5f}\n",
        candidates[c].name, decoders[c].decoder->info().numerics_class.c_str(), static_cast<long long>(r.n),
        r.kl_sum / static_cast<double>(r.n), r.kl_max,
        static_cast<double>(r.same_top) / static_cast<double>(r.n),
        r.loss_reference / static_cast<double>(r.n_loss), r.loss / static_cast<double>(r.n_loss));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace coterie

int main(int argc, char** argv) {
  coterie::Flags values;
  coterie::FlagSet flags("bench_numerics", "What the fast mode loses against the exact one.");
  flags.Positionals("MODEL.gguf TEXT...", 2, 10'000);
  flags.Int("window", &values.window, 2, 1 << 20, "TOKENS", "length of a sequence cut from a text");
  flags.Int("windows", &values.max_windows, 1, 1 << 20, "N", "most sequences");
  flags.String("adapter", &values.adapter, "FOLDER", "a PEFT adapter that both modes serve");
  return coterie::bench::Main(&flags, argc, argv, [&] {
    values.model = flags.positionals()[0];
    values.texts.assign(flags.positionals().begin() + 1, flags.positionals().end());
    return coterie::Run(values);
  });
}
