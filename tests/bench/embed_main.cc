// How long the sentence encoder takes, as one JSON object: texts of 32 and of 128 tokens, alone and eight in
// a call, on one and on two threads.
//
//   bench_embed ENCODER_FOLDER [--rounds=N]
//
// Rounds go over all the cases in turn; medians are printed. A case's time is that of one Embed call, the
// tokeniser included.
#include <cstdio>
#include <map>
#include <string>

#include "model/encoder/encoder.h"
#include "tests/bench/harness.h"

namespace coterie::bench {
namespace {

constexpr int kCallsPerRound = 8;

struct Flags {
  std::string folder;
  int rounds = 6;
};

// A text that the tokeniser turns into exactly `n_tokens`, [CLS] and [SEP] counted. `index` tells texts
// apart.
StatusOr<std::string> TextOf(const Encoder& encoder, int n_tokens, int index) {
  static constexpr const char* kWords[] = {"water ", "table ", "green ", "letter ",
                                           "river ", "paper ", "stone ", "number "};
  const auto count = [&](const std::string& text) -> StatusOr<int> {
    ASSIGN_OR_RETURN(const std::vector<int32_t> ids, encoder.tokenizer().Encode(text, {.add_special = true}));
    return static_cast<int>(ids.size());
  };
  std::string text;
  for (int i = 0;; ++i) {
    ASSIGN_OR_RETURN(const int n, count(text));
    if (n == n_tokens) return text;
    std::string longer = text + kWords[static_cast<size_t>(i * 7 + index * 3 + i / 8) % std::size(kWords)];
    ASSIGN_OR_RETURN(const int n_longer, count(longer));
    // A word may be several tokens where the vocabulary lacks it; a full stop is always one.
    if (n_longer <= n_tokens) {
      text = std::move(longer);
    } else {
      text += ". ";
    }
    if (i > n_tokens) return absl::InternalError("no text of the wanted length: a word gave no token");
  }
}

Status Run(const Flags& flags) {
  const Clock::time_point start = Clock::now();
  struct Case {
    std::string name;
    NumericsMode mode;
    int n_threads;
    std::unique_ptr<Encoder> encoder;
  };
  std::vector<Case> cases;
  for (const int n_threads : {1, 2}) {
    cases.push_back({"fast", NumericsMode::kFast, n_threads, nullptr});
    cases.push_back({"exact", NumericsMode::kExact, n_threads, nullptr});
  }
  double load_seconds = 0;
  for (Case& c : cases) {
    ASSIGN_OR_RETURN(c.encoder, Encoder::Load(flags.folder, {.mode = c.mode, .n_threads = c.n_threads}));
    if (load_seconds == 0) load_seconds = Seconds(start);
  }
  BandwidthProbe probe(1);
  std::map<std::string, std::vector<double>> results;
  for (int round = 0; round < flags.rounds; ++round) {
    results["bandwidth_probe_one_thread_gb_per_second"].push_back(probe.MeasureGbPerSecond());
    for (const auto& [mode_name, mode, n_threads, encoder] : cases) {
      for (const int n_tokens : {32, 128}) {
        for (const int n_texts : {1, 8}) {
          std::vector<std::string> texts;
          for (int i = 0; i < n_texts; ++i) {
            ASSIGN_OR_RETURN(texts.emplace_back(), TextOf(*encoder, n_tokens, i));
          }
          std::vector<double> times;
          for (int i = 0; i < kCallsPerRound; ++i) {
            const Clock::time_point begin = Clock::now();
            RETURN_IF_ERROR(encoder->Embed(texts).status());
            times.push_back(Seconds(begin));
          }
          results[absl::StrCat("embed_", mode_name, "_", n_tokens, "_tokens_batch_", n_texts, "_threads_",
                               n_threads, "_milliseconds")]
              .push_back(Median(times) * 1e3);
        }
      }
    }
  }
  std::printf("{\"rounds\": %d, \"load_seconds\": %.3f, \"weights_mb\": %.1f", flags.rounds, load_seconds,
              static_cast<double>(cases[0].encoder->weight_bytes()) / 1e6);
  for (const auto& [name, values] : results) std::printf(",\n \"%s\": %.3f", name.c_str(), Median(values));
  std::printf("}\n");
  return absl::OkStatus();
}

}  // namespace
}  // namespace coterie::bench

int main(int argc, char** argv) {
  coterie::bench::Flags values;
  coterie::FlagSet flags("bench_embed", "The time of one call of the sentence encoder.");
  flags.Positionals("ENCODER_FOLDER", 1, 1);
  flags.Int("rounds", &values.rounds, 1, 1000, "N", "times over all cases; medians are printed");
  return coterie::bench::Main(&flags, argc, argv, [&] {
    values.folder = flags.positionals()[0];
    return coterie::bench::Run(values);
  });
}
