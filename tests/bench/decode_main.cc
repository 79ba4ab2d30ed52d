// Speed of the decoder on this machine, as one JSON object: prefill, decode at several batch sizes, adapters,
// load time and memory, beside a bandwidth probe in the same run.
//
//   bench_decode MODEL [--threads=N] [--rounds=N] [--isa=NAME] [--mode=fast|exact]
//   [--weights=as-is|q8_0|q4_1]
//
// Rounds go over all the cases in turn, so that a noisy neighbour disturbs them alike; medians are printed.
// Never quote one without the probe beside it (docs/benchmarks.md).
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>

#include "model/decoder/decoder.h"
#include "tests/bench/harness.h"
#include "tests/bench/random_adapter.h"
#include "tests/model/decoder/sequences.h"

namespace coterie::bench {
namespace {

using testing::AddToBatch;
using testing::LogitRows;
using testing::TestSequence;

constexpr int kMaxSequences = 16;
constexpr int kContext = 1024;
constexpr int kDecodeSteps = 16;
constexpr int kUnusedRounds = 3;
constexpr int kTogether = 4;  // adapters of a sequence that has several
constexpr int kUsed = 2;      // of these, by a gate

struct Bench {
  Decoder* decoder;
  std::mt19937 random{5};

  // `slot` of the decoder's adapters; -1: the base alone.
  TestSequence Sequence(int index, int n_tokens, int slot) {
    TestSequence s;
    for (int i = 0; i < n_tokens; ++i) s.tokens.push_back(static_cast<int32_t>(random() % n_tokens_drawn()));
    s.UseBlocks(index * (kContext / kKvBlockTokens), kContext);
    if (slot >= 0) {
      s.adapter_slots = {slot};
      s.weights = {1.0f};
    }
    return s;
  }

  uint32_t n_tokens_drawn() const { return static_cast<uint32_t>(decoder->info().vocab_size); }

  RowSampling sampling;  // of every row

  double Step(std::vector<TestSequence>* sequences, int n) {
    Batch batch;
    batch.Clear();
    for (TestSequence& s : *sequences) AddToBatch(&s, n, LogitRows::kLast, &batch);
    batch.sampling.assign(batch.logit_rows.size(), sampling);
    const Clock::time_point start = Clock::now();
    StatusOr<StepTicket> ticket = decoder->Launch(batch);
    const Status status = ticket.ok() ? decoder->Collect(*ticket).status() : ticket.status();
    const double seconds = Seconds(start);
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
      std::exit(1);
    }
    return seconds;
  }

  // Tokens per second of one prompt step of n_seqs x n_tokens, after another of that shape: as peers are
  // measured, whose first of a shape is slower.
  double Prefill(int n_seqs, int n_tokens) {
    double seconds = 0;
    for (int run = 0; run < 2; ++run) {
      std::vector<TestSequence> sequences;
      for (int i = 0; i < n_seqs; ++i) sequences.push_back(Sequence(i, n_tokens, -1));
      seconds = Step(&sequences, n_tokens);
    }
    return n_seqs * n_tokens / seconds;
  }

  // Tokens per second of decoding after 64 tokens of context; sequence i uses slot i % n_adapters, if any.
  double Decode(int n_seqs, int n_adapters) {
    std::vector<TestSequence> sequences;
    for (int i = 0; i < n_seqs; ++i) {
      sequences.push_back(Sequence(i, 64 + kDecodeSteps, n_adapters == 0 ? -1 : i % n_adapters));
    }
    return Decode(&sequences);
  }

  // The same; every sequence uses slots 0 .. kTogether - 1, blended or under a gate.
  double DecodeTogether(int n_seqs, const Gate& gate) {
    std::vector<TestSequence> sequences;
    for (int i = 0; i < n_seqs; ++i) {
      TestSequence& s = sequences.emplace_back(Sequence(i, 64 + kDecodeSteps, -1));
      for (int slot = 0; slot < kTogether; ++slot) s.adapter_slots.push_back(slot);
      s.weights.assign(kTogether, gate.kind == GateKind::kNone ? 1.0f / kTogether : 1.0f);
      s.gate = gate;
    }
    return Decode(&sequences);
  }

  double Decode(std::vector<TestSequence>* sequences) {
    Step(sequences, 64);
    double seconds = 0;
    for (int i = 0; i < kDecodeSteps; ++i) seconds += Step(sequences, 1);
    return static_cast<double>(sequences->size()) * kDecodeSteps / seconds;
  }
};

void ClearSlots(Decoder* decoder) {
  for (int slot = 0; slot < decoder->adapter_slots().n_slots(); ++slot) decoder->adapter_slots().Clear(slot);
}

// Packs adapter i into slot i; the bytes of one.
StatusOr<size_t> FillSlots(Decoder* decoder, std::span<const RandomAdapter> adapters) {
  ClearSlots(decoder);
  size_t bytes = 0;
  int slot = 0;
  for (const RandomAdapter& adapter : adapters) {
    ASSIGN_OR_RETURN(std::unique_ptr<PackedAdapter> packed, decoder->backend().PackAdapter(adapter.pairs()));
    bytes = packed->bytes();
    decoder->adapter_slots().Fill(slot++, std::move(packed));
  }
  return bytes;
}

struct Flags {
  std::string model;
  BackendFlags backend;
  WeightsFlag weights;
  int rounds = 6;
};

Status Run(const Flags& flags) {
  const Clock::time_point start = Clock::now();
  std::unique_ptr<Decoder> decoder;
  {
    ASSIGN_OR_RETURN(std::unique_ptr<ModelFiles> files, ModelFiles::Open(flags.model));
    ASSIGN_OR_RETURN(std::unique_ptr<DecoderOps> backend, CreateCpuDecoderOps(flags.backend.Options()));
    DecoderOptions decoder_options;
    decoder_options.n_kv_blocks = kMaxSequences * (kContext / kKvBlockTokens);
    decoder_options.max_batch_tokens = 2048;
    decoder_options.max_seqs = kMaxSequences;
    decoder_options.float_weights = flags.weights.FloatWeights();
    ASSIGN_OR_RETURN(decoder, Decoder::Create(*files, std::move(backend), decoder_options));
  }
  if (decoder->info().context_length < kContext) {
    return absl::FailedPreconditionError(absl::StrCat(flags.model, ": context of ",
                                                      decoder->info().context_length,
                                                      " tokens; this benchmark wants ", kContext));
  }
  const double load_seconds = Seconds(start);
  const double loaded_mb = ResidentMb();

  Bench bench{decoder.get()};
  // Rank -> sixteen of them, as a file holds them.
  std::map<int, std::vector<RandomAdapter>> stored;
  for (const int rank : {8, 16}) {
    for (int i = 0; i < kMaxSequences; ++i)
      stored[rank].emplace_back(decoder->config(), rank, bench.random());
  }
  BandwidthProbe probe(flags.backend.threads);
  std::map<std::string, std::vector<double>> results;
  std::map<int, size_t> adapter_bytes;  // by rank
  bench.Prefill(16, 128);               // untimed: caches and branch predictors
  bench.Decode(16, 0);
  for (int round = 0; round < flags.rounds; ++round) {
    results["bandwidth_probe_gb_per_second"].push_back(probe.MeasureGbPerSecond());
    const auto add = [&](const std::string& name, double rate) {
      results[name + "_tokens_per_second"].push_back(rate);
    };
    add("prefill_512", bench.Prefill(1, 512));
    add("prefill_16x128", bench.Prefill(16, 128));
    for (const int b : {1, 4, 8, 16}) add("decode_b" + std::to_string(b), bench.Decode(b, 0));
    // Drawn from whole rows.
    bench.sampling.temperature = 0.8f;
    bench.sampling.top_p = 0.95f;
    for (const int b : {1, 16}) add("decode_b" + std::to_string(b) + "_sampled", bench.Decode(b, 0));
    bench.sampling = {};
    for (const auto& [rank, adapters] : stored) {
      const std::string suffix = "_r" + std::to_string(rank);
      const Clock::time_point packing = Clock::now();
      ASSIGN_OR_RETURN(adapter_bytes[rank], FillSlots(decoder.get(), adapters));
      results["pack_adapter" + suffix + "_ms"].push_back(1e3 * Seconds(packing) / kMaxSequences);
      add("decode_b16_one_adapter" + suffix, bench.Decode(16, 1));
      add("decode_b16_16_adapters" + suffix, bench.Decode(16, kMaxSequences));
      if (rank != 16) continue;
      for (const int b : {1, 16}) {
        const std::string prefix = "decode_b" + std::to_string(b);
        add(prefix + "_one_of_4_adapters", bench.Decode(b, 1));
        add(prefix + "_blend_of_4", bench.DecodeTogether(b, {}));
        for (const GateKind gate : decoder->info().gates) {
          const int used = gate == GateKind::kGateless ? kTogether : kUsed;
          add(prefix + "_" + std::string(NameOf(gate)) + "_" + std::to_string(used) + "_of_4",
              bench.DecodeTogether(b, {gate, used}));
        }
      }
      // In turn, so that what disturbs one disturbs the other.
      std::vector<double> with, without;
      for (int i = 0; i < kUnusedRounds; ++i) {
        with.push_back(bench.Decode(16, 0));
        ClearSlots(decoder.get());
        without.push_back(bench.Decode(16, 0));
        RETURN_IF_ERROR(FillSlots(decoder.get(), adapters).status());
      }
      add("decode_b16_unused_adapters", Median(with));
      add("decode_b16_no_adapters", Median(without));
    }
  }
  const auto mb = [](size_t bytes) { return static_cast<double>(bytes) / 1e6; };
  std::printf("{\"device\": \"%s\", \"numerics_class\": \"%s\", \"rounds\": %d,\n",
              decoder->backend().device_name().c_str(), decoder->info().numerics_class.c_str(), flags.rounds);
  std::printf(" \"load_seconds\": %.3f, \"resident_loaded_mb\": %.1f, \"weights_mb\": %.1f, \"kv_mb\": %.1f",
              load_seconds, loaded_mb, mb(decoder->info().weight_bytes), mb(decoder->info().kv_bytes));
  for (const auto& [rank, bytes] : adapter_bytes) std::printf(", \"adapter_r%d_mb\": %.2f", rank, mb(bytes));
  for (const auto& [name, values] : results) std::printf(",\n \"%s\": %.5g", name.c_str(), Median(values));
  std::printf("}\n");
  return absl::OkStatus();
}

}  // namespace
}  // namespace coterie::bench

int main(int argc, char** argv) {
  coterie::bench::Flags values;
  coterie::FlagSet flags("bench_decode",
                         "Prefill, decode and adapters on the decoder alone, beside a bandwidth probe.");
  flags.Positionals("MODEL", 1, 1);
  flags.Int("rounds", &values.rounds, 1, 1000, "N", "times over all cases; medians are printed");
  values.backend.Declare(&flags);
  values.weights.Declare(&flags);
  return coterie::bench::Main(&flags, argc, argv, [&] {
    values.model = flags.positionals()[0];
    return coterie::bench::Run(values);
  });
}
