#ifndef COTERIE_TESTS_WORKER_ENGINE_ENGINE_HARNESS_H_
#define COTERIE_TESTS_WORKER_ENGINE_ENGINE_HARNESS_H_

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/worker/engine/gated_model.h"
#include "worker/engine/engine.h"
#include "worker/engine/fake_model.h"
#include "worker/engine/sequence.h"

namespace coterie {

// What came out for one sequence.
struct Answer {
  std::vector<int32_t> tokens;
  std::vector<std::vector<TokenLogprob>> logprobs;                // of tokens
  std::map<uint32_t, std::vector<TokenLogprob>> prompt_logprobs;  // by position
  FinishReason finish = FinishReason::kNone;
  int32_t stop_token = -1;
  Status status;
  uint32_t cached_prompt_tokens = 0;
  uint32_t queued_ms = 0;
  int n_first = 0;  // events marked as the first
};

// A folder of fake adapters; each folder is named by its digest.
class AdapterFolder {
 public:
  AdapterFolder();
  ~AdapterFolder();
  Digest Make(const std::string& name);
  // An adapter that stands elsewhere. Before anything asks for it.
  void Add(const Digest& digest, std::filesystem::path folder) { elsewhere_[digest] = std::move(folder); }
  StatusOr<std::filesystem::path> Find(const Digest& digest) const;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::map<Digest, std::filesystem::path> elsewhere_;
};

// An engine over a fake model, with every event checked for order as it comes. With COTERIE_TEST_LATE_MODEL
// in the environment the model runs behind a LateModel: so all tests see both kinds of device.
class EngineHarness {
 public:
  static bool RunsLate();
  explicit EngineHarness(EngineOptions options = {}, FakeModelOptions model = {},
                         std::function<std::unique_ptr<LanguageModel>(FakeModelOptions)> make_model = nullptr,
                         MatcherSource* matchers = nullptr);
  ~EngineHarness();

  Digest MakeAdapter(const std::string& name) { return adapters_.Make(name); }
  void AddAdapter(const Digest& digest, std::filesystem::path folder) {
    adapters_.Add(digest, std::move(folder));
  }
  // Gives it an id, which is returned.
  uint64_t Submit(SequenceRequest request);
  Status TrySubmit(SequenceRequest request);

  // From now on the model waits before each step: for StepUntil, or for LetStepsGo.
  void HoldSteps() { gate_.held = true; }
  void LetStepsGo() { gate_.held = false; }
  // Steps that have begun, or are held.
  int n_steps_arrived() const { return gate_.arrived; }
  // Held steps go one by one until `done`; what a step gave has come out when the next one waits.
  void StepUntil(const std::function<bool()>& done);

  // Takes outputs in until `done`, or fails the test after a minute without any.
  void PumpUntil(const std::function<bool()>& done);
  void PumpFor(absl::Duration time);
  void WaitFinished(uint64_t id);
  const Answer& Run(SequenceRequest request);

  Answer& answer(uint64_t id) { return answers_[id]; }
  bool finished(uint64_t id) { return answers_[id].finish != FinishReason::kNone; }
  const std::set<Digest>& resident() const { return resident_; }
  const std::set<uint64_t>& prefixes() const { return prefixes_; }
  Engine& engine() { return *engine_; }
  void StopEngine();
  // Called with each sequence before the engine has it; an error is TrySubmit's.
  std::function<Status(const Sequence&)> on_prepared;
  // Called with each event, in order.
  std::function<void(const OutputEvent&)> on_event;

 private:
  void Take(OutputBatch& batch);

  AdapterFolder adapters_;
  StepGate gate_;
  std::unique_ptr<LanguageModel> model_;
  std::unique_ptr<Engine> engine_;
  OutputBatch batch_;
  std::map<uint64_t, Answer> answers_;
  std::map<uint64_t, uint32_t> resumed_;
  std::set<Digest> resident_;
  std::set<uint64_t> prefixes_;
  uint64_t next_id_ = 1;
};

// `n` token ids that depend on `seed`.
std::vector<int32_t> TestPrompt(int n, int seed, int vocab_size = 1000);
SequenceRequest TestRequest(std::vector<int32_t> prompt, uint32_t max_tokens);

}  // namespace coterie

#endif  // COTERIE_TESTS_WORKER_ENGINE_ENGINE_HARNESS_H_
