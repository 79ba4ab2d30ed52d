// Speed of the decoder on this machine, as one JSON object: prefill, decode at several batch sizes, adapters,
// load time and memory, beside a bandwidth probe in the same run.
//
//   bench_decode MODEL.gguf [--threads=N] [--rounds=N] [--isa=NAME] [--mode=fast|exact]
//
// Rounds go over all the cases in turn, so that a noisy neighbour disturbs them alike; medians are printed.
// Never quote one without the probe beside it (docs/benchmarks.md).
#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <thread>

#include "common/file.h"
#include "model/decoder/decoder.h"
#include "tests/model/decoder/sequences.h"

namespace coterie {
namespace {

using testing::AddToBatch;
using testing::LogitRows;
using testing::TestSequence;
using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point since) {
  return std::chrono::duration<double>(Clock::now() - since).count();
}

constexpr int kMaxSequences = 16;
constexpr int kContext = 1024;
constexpr int kDecodeSteps = 16;

// Sums 256 MB with every thread: GB/s of reading.
class BandwidthProbe {
 public:
  explicit BandwidthProbe(int n_threads) : n_threads_(n_threads), memory_(size_t{32} << 20, 1) {}
  double Measure() {
    std::vector<std::thread> threads;
    const Clock::time_point start = Clock::now();
    for (int t = 0; t < n_threads_; ++t) {
      threads.emplace_back([this, t] {
        const size_t begin = memory_.size() * static_cast<size_t>(t) / static_cast<size_t>(n_threads_);
        const size_t end = memory_.size() * static_cast<size_t>(t + 1) / static_cast<size_t>(n_threads_);
        uint64_t sums[8] = {};
        for (size_t i = begin; i + 8 <= end; i += 8) {
          for (size_t l = 0; l < 8; ++l) sums[l] += memory_[i + l];
        }
        for (uint64_t sum : sums) sink_ += sum;
      });
    }
    for (std::thread& thread : threads) thread.join();
    return static_cast<double>(memory_.size() * sizeof(uint64_t)) / Seconds(start) / 1e9;
  }

 private:
  int n_threads_;
  std::vector<uint64_t> memory_;
  std::atomic<uint64_t> sink_{0};
};

// Random low-rank pairs for every linear layer, bfloat16.
class RandomAdapter {
 public:
  RandomAdapter(const ModelConfig& c, int rank, std::mt19937* random) {
    const struct {
      LoraModule module;
      int n_out, n_in;
    } modules[] = {
        {LoraModule::kQ, c.q_size(), c.hidden_size},    {LoraModule::kK, c.kv_size(), c.hidden_size},
        {LoraModule::kV, c.kv_size(), c.hidden_size},   {LoraModule::kO, c.hidden_size, c.q_size()},
        {LoraModule::kGate, c.ffn_size, c.hidden_size}, {LoraModule::kUp, c.ffn_size, c.hidden_size},
        {LoraModule::kDown, c.hidden_size, c.ffn_size}};
    for (int layer = 0; layer < c.n_layers; ++layer) {
      for (const auto& m : modules) {
        HostLora pair;
        pair.a = Matrix(rank, m.n_in, random);
        pair.b = Matrix(m.n_out, rank, random);
        pair.scale = 1.0f;
        pair.layer = layer;
        pair.module = m.module;
        pairs_.push_back(std::move(pair));
      }
    }
  }
  const std::vector<HostLora>& pairs() const { return pairs_; }

 private:
  HostMatrix Matrix(int n_out, int n_in, std::mt19937* random) {
    std::vector<uint16_t>& values =
        storage_.emplace_back(static_cast<size_t>(n_out) * static_cast<size_t>(n_in));
    for (uint16_t& v : values) v = static_cast<uint16_t>(0x3a00 | ((*random)() & 0x80ff));  // about ±0.0005
    HostMatrix matrix;
    matrix.dtype = DType::kBF16;
    matrix.n_out = n_out;
    matrix.n_in = n_in;
    matrix.data = reinterpret_cast<const uint8_t*>(values.data());
    return matrix;
  }
  std::vector<std::vector<uint16_t>> storage_;
  std::vector<HostLora> pairs_;
};

struct Bench {
  Decoder* decoder;
  std::vector<std::unique_ptr<PackedAdapter>> adapters;
  std::mt19937 random{5};

  TestSequence Sequence(int index, int n_tokens, const PackedAdapter* adapter) {
    TestSequence s;
    for (int i = 0; i < n_tokens; ++i) s.tokens.push_back(static_cast<int32_t>(random() % 40000));
    s.UseBlocks(index * (kContext / kKvBlockTokens), kContext);
    if (adapter != nullptr) {
      s.adapters = {adapter};
      s.weights = {1.0f};
    }
    return s;
  }

  double Step(std::vector<TestSequence>* sequences, int n) {
    Batch batch;
    batch.Clear();
    for (TestSequence& s : *sequences) AddToBatch(&s, n, LogitRows::kLast, &batch);
    std::span<const float> logits;
    const Clock::time_point start = Clock::now();
    const Status status = decoder->Forward(batch, &logits);
    const double seconds = Seconds(start);
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", status.ToString().c_str());
      std::exit(1);
    }
    return seconds;
  }

  // Tokens per second of one prompt step of n_seqs x n_tokens.
  double Prefill(int n_seqs, int n_tokens) {
    std::vector<TestSequence> sequences;
    for (int i = 0; i < n_seqs; ++i) sequences.push_back(Sequence(i, n_tokens, nullptr));
    return n_seqs * n_tokens / Step(&sequences, n_tokens);
  }

  // Tokens per second of decoding after 64 tokens of context; adapter i % n_adapters for sequence i.
  double Decode(int n_seqs, int n_adapters) {
    std::vector<TestSequence> sequences;
    for (int i = 0; i < n_seqs; ++i) {
      const PackedAdapter* adapter =
          n_adapters == 0 ? nullptr : adapters[static_cast<size_t>(i % n_adapters)].get();
      sequences.push_back(Sequence(i, 64 + kDecodeSteps, adapter));
    }
    Step(&sequences, 64);
    double seconds = 0;
    for (int i = 0; i < kDecodeSteps; ++i) seconds += Step(&sequences, 1);
    return n_seqs * kDecodeSteps / seconds;
  }
};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Resident memory now, and the most there ever was.
double ResidentMb() {
  StatusOr<std::string> status = ReadFile("/proc/self/status", 1 << 20);
  const size_t at = status.ok() ? status->find("VmRSS:") : std::string::npos;
  return at == std::string::npos ? 0 : std::atof(status->c_str() + at + 6) / 1024;
}

Status Run(int argc, char** argv) {
  std::string model;
  CpuBackendOptions options;
  int rounds = 6;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg.starts_with("--threads=")) {
      options.n_threads = std::atoi(argv[i] + 10);
    } else if (arg.starts_with("--rounds=")) {
      rounds = std::max(1, std::atoi(argv[i] + 9));
    } else if (arg.starts_with("--isa=")) {
      options.isa = arg.substr(6);
    } else if (arg.starts_with("--mode=")) {
      options.mode = arg.substr(7) == "exact" ? NumericsMode::kExact : NumericsMode::kFast;
    } else {
      model = arg;
    }
  }
  if (model.empty()) {
    return absl::InvalidArgumentError(
        "usage: bench_decode MODEL [--threads=N] [--rounds=N] [--isa=NAME] [--mode=fast|exact]");
  }
  const Clock::time_point start = Clock::now();
  std::unique_ptr<Decoder> decoder;
  {
    ASSIGN_OR_RETURN(std::unique_ptr<ModelFiles> files, ModelFiles::Open(model));
    ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, CreateCpuBackend(options));
    DecoderOptions decoder_options;
    decoder_options.n_kv_blocks = kMaxSequences * (kContext / kKvBlockTokens);
    decoder_options.max_batch_tokens = 2048;
    decoder_options.max_seqs = kMaxSequences;
    ASSIGN_OR_RETURN(decoder, Decoder::Create(*files, std::move(backend), decoder_options));
  }
  const double load_seconds = Seconds(start);
  const double loaded_mb = ResidentMb();

  Bench bench{decoder.get(), {}};
  size_t adapter_bytes = 0;
  for (int i = 0; i < kMaxSequences; ++i) {
    const RandomAdapter adapter(decoder->config(), 16, &bench.random);
    ASSIGN_OR_RETURN(std::unique_ptr<PackedAdapter> packed, decoder->backend().PackAdapter(adapter.pairs()));
    adapter_bytes = packed->bytes();
    bench.adapters.push_back(std::move(packed));
  }
  BandwidthProbe probe(options.n_threads > 0 ? options.n_threads
                                             : static_cast<int>(std::thread::hardware_concurrency()));
  std::map<std::string, std::vector<double>> results;
  for (int round = 0; round < rounds; ++round) {
    results["bandwidth_gb_s"].push_back(probe.Measure());
    results["prefill_512"].push_back(bench.Prefill(1, 512));
    results["prefill_16x128"].push_back(bench.Prefill(16, 128));
    for (const int b : {1, 4, 8, 16}) results["decode_b" + std::to_string(b)].push_back(bench.Decode(b, 0));
    results["decode_b16_one_adapter_r16"].push_back(bench.Decode(16, 1));
    results["decode_b16_16_adapters_r16"].push_back(bench.Decode(16, 16));
  }
  std::printf(
      "{\"device\": \"%s\", \"class\": \"%s\", \"rounds\": %d, \"load_seconds\": %.3f, "
      "\"resident_mb_loaded\": %.1f,\n",
      decoder->backend().device_name().c_str(), decoder->info().numerics_class.c_str(), rounds, load_seconds,
      loaded_mb);
  std::printf(" \"weight_mb\": %.1f, \"kv_mb\": %.1f, \"adapter_mb\": %.2f",
              static_cast<double>(decoder->info().weight_bytes) / 1e6,
              static_cast<double>(decoder->info().kv_bytes) / 1e6, static_cast<double>(adapter_bytes) / 1e6);
  for (const auto& [name, values] : results) std::printf(",\n \"%s\": %.1f", name.c_str(), Median(values));
  std::printf("}\n");
  return absl::OkStatus();
}

}  // namespace
}  // namespace coterie

int main(int argc, char** argv) {
  const absl::Status status = coterie::Run(argc, argv);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
  return 0;
}
