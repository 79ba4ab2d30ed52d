// What a constraint costs: 16 answers of a model at a time, without and with one, in turn. Prints JSON;
// nothing fails on a time.
//   bench_constrained MODEL [ROUNDS]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "common/check.h"
#include "common/clock.h"
#include "kernels/create.h"
#include "model/decoder/decoder.h"
#include "model/format/model_files.h"
#include "model/grammar/grammar_matchers.h"
#include "model/text/base_text.h"
#include "worker/engine/engine.h"

namespace coterie {
namespace {

constexpr int kSeqs = 16;
constexpr uint32_t kTokens = 48;
// Too many items to end within the tokens.
constexpr char kSchema[] =
    R"({"type": "array", "minItems": 100, "items": {"type": "object", "properties": {"name": {"type": "string"}, )"
    R"("age": {"type": "integer", "minimum": 0, "maximum": 150}, "kind": {"enum": ["cat", "dog", "bird"]}}, )"
    R"("required": ["name", "age", "kind"]}})";

// Seconds for a token of each answer, all answers beside each other.
double Measure(Engine* engine, bool constrained, uint64_t* next_id) {
  const MonotonicTime begun = MonotonicNow();
  for (int i = 0; i < kSeqs; ++i) {
    SequenceRequest request;
    request.id = (*next_id)++;
    for (int t = 0; t < 16; ++t) request.prompt_ids.push_back(100 + 7 * i + t);
    request.sampling.max_tokens = kTokens;
    request.sampling.temperature = 0.8f;
    request.sampling.seed = static_cast<uint64_t>(i);
    request.sampling.ignore_eos = !constrained;
    if (constrained) request.sampling.constraint = {Constraint::Kind::kJsonSchema, kSchema, {}};
    COTERIE_CHECK(engine->Submit(std::move(request)).ok());
  }
  OutputBatch batch;
  int n_tokens = 0;
  for (int n_finished = 0; n_finished < kSeqs;) {
    engine->WaitOutputs(&batch, MonotonicNow() + absl::Seconds(1));
    for (const OutputEvent& event : batch.events) {
      n_tokens += event.kind == OutputEvent::Kind::kToken ? 1 : 0;
      if (event.kind != OutputEvent::Kind::kFinish) continue;
      COTERIE_CHECK(event.finish == FinishReason::kLength) << event.status;
      ++n_finished;
    }
    batch.Clear();
  }
  return absl::ToDoubleSeconds(MonotonicNow() - begun) / (static_cast<double>(n_tokens) / kSeqs);
}

Status Run(const char* model, int rounds) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelFiles> files, ModelFiles::Open(model));
  ASSIGN_OR_RETURN(const BaseText text, LoadBaseText(*files));
  EngineOptions engine_options;
  engine_options.max_seqs = kSeqs;
  DecoderOptions decoder_options;
  decoder_options.n_kv_blocks = 512;
  decoder_options.max_seqs = kSeqs;
  decoder_options.max_batch_tokens = engine_options.max_batch_tokens;
  decoder_options.max_logit_rows = engine_options.max_logit_rows;
  decoder_options.n_adapter_slots = engine_options.adapters.n_slots;
  for (const EndToken& end : text.end_tokens) decoder_options.eos_token_ids.push_back(end.id);
  ASSIGN_OR_RETURN(auto ops, CreateCpuDecoderOps({}));
  ASSIGN_OR_RETURN(const std::unique_ptr<Decoder> decoder,
                   Decoder::Create(*files, std::move(ops), decoder_options));
  ASSIGN_OR_RETURN(const auto matchers,
                   GrammarMatchers::Create(TokenBytes(*text.tokenizer, decoder->info().vocab_size),
                                           decoder_options.eos_token_ids));
  ASSIGN_OR_RETURN(const auto engine, Engine::Create(engine_options, decoder.get(), nullptr, matchers.get()));
  uint64_t next_id = 1;
  std::vector<double> plain, constrained, ratios;
  for (int round = 0; round <= rounds; ++round) {  // the first warms up
    const double without = Measure(engine.get(), false, &next_id);
    const double with = Measure(engine.get(), true, &next_id);
    if (round == 0) continue;
    plain.push_back(without);
    constrained.push_back(with);
    ratios.push_back(with / without);
  }
  const auto median = [](std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                     values.end());
    return values[values.size() / 2];
  };
  std::printf(
      "{\"plain_token_ms\": %.3f, \"constrained_token_ms\": %.3f, \"ratio\": %.4f, \"late_masks\": %llu, "
      "\"tokens\": %d}\n",
      median(plain) * 1e3, median(constrained) * 1e3, median(ratios),
      static_cast<unsigned long long>(engine->stats().late_masks.load()),
      (rounds + 1) * kSeqs * static_cast<int>(kTokens));
  return absl::OkStatus();
}

}  // namespace
}  // namespace coterie

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_constrained MODEL [ROUNDS]\n");
    return 2;
  }
  const coterie::Status status = coterie::Run(argv[1], argc > 2 ? std::atoi(argv[2]) : 5);
  if (!status.ok()) std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
