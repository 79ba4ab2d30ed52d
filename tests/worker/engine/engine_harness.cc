#include "tests/worker/engine/engine_harness.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>

#include "common/clock.h"
#include "common/file.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/late_model.h"

namespace coterie {

AdapterFolder::AdapterFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "coterie_adapters_XXXXXX").string();
  path_ = mkdtemp(pattern.data());
}

AdapterFolder::~AdapterFolder() { std::filesystem::remove_all(path_); }

Digest AdapterFolder::Make(const std::string& name) {
  const Digest digest = Sha256(name);
  const std::filesystem::path folder = path_ / digest.ToHex();
  std::filesystem::create_directory(folder);
  EXPECT_TRUE(WriteFileAtomically(folder / "adapter_config.json", "{}").ok());
  return digest;
}

StatusOr<std::filesystem::path> AdapterFolder::Find(const Digest& digest) const {
  if (auto found = elsewhere_.find(digest); found != elsewhere_.end()) return found->second;
  std::filesystem::path folder = path_ / digest.ToHex();
  if (!std::filesystem::exists(folder))
    return absl::NotFoundError(absl::StrCat("no folder ", folder.string()));
  return folder;
}

EngineHarness::EngineHarness(EngineOptions options, FakeModelOptions model,
                             std::function<std::unique_ptr<LanguageModel>(FakeModelOptions)> make_model,
                             MatcherSource* matchers)
    : model_(std::make_unique<GatedModel>(make_model ? make_model(model) : std::make_unique<FakeModel>(model),
                                          &gate_)) {
  if (RunsLate() && model_->info().steps_in_flight == 1)
    model_ = std::make_unique<LateModel>(std::move(model_));
  auto engine = Engine::Create(
      options, model_.get(), [this](const Digest& d) { return adapters_.Find(d); }, matchers);
  EXPECT_TRUE(engine.ok()) << engine.status();
  engine_ = std::move(engine).value();
}

bool EngineHarness::RunsLate() { return std::getenv("COTERIE_TEST_LATE_MODEL") != nullptr; }

EngineHarness::~EngineHarness() { StopEngine(); }

void EngineHarness::StopEngine() {
  LetStepsGo();
  engine_.reset();
}

uint64_t EngineHarness::Submit(SequenceRequest request) {
  request.id = next_id_;
  const Status status = TrySubmit(std::move(request));
  EXPECT_TRUE(status.ok()) << status;
  return next_id_ - 1;
}

Status EngineHarness::TrySubmit(SequenceRequest request) {
  request.id = next_id_++;
  resumed_[request.id] = static_cast<uint32_t>(request.resume_ids.size());
  if (!on_prepared) return engine_->Submit(std::move(request));
  ASSIGN_OR_RETURN(std::unique_ptr<Sequence> sequence, engine_->Prepare(std::move(request)));
  RETURN_IF_ERROR(on_prepared(*sequence));
  return engine_->Submit(std::move(sequence));
}

void EngineHarness::StepUntil(const std::function<bool()>& done) {
  ASSERT_TRUE(gate_.held);
  for (int step = 0; step < 20000 && !done(); ++step) {
    const int before = gate_.arrived;
    if (before == 0) {  // nothing has begun yet
      PumpFor(absl::Milliseconds(1));
      continue;
    }
    ++gate_.allowed;
    // Nothing may be left to step, or a load be under way.
    const MonotonicTime limit = MonotonicNow() + absl::Seconds(1);
    while (gate_.arrived == before && MonotonicNow() < limit && !done()) PumpFor(absl::Microseconds(50));
    PumpFor(absl::Microseconds(50));
  }
  EXPECT_TRUE(done());
}

void EngineHarness::Take(OutputBatch& batch) {
  for (const OutputEvent& event : batch.events) {
    if (on_event) on_event(event);
    if (event.kind == OutputEvent::Kind::kLogits) continue;  // for who draws the token
    Answer& answer = answers_[event.id];
    EXPECT_EQ(answer.finish, FinishReason::kNone) << "an event after the end of " << event.id;
    if (event.first) {
      ++answer.n_first;
      answer.cached_prompt_tokens = event.cached_prompt_tokens;
      answer.queued_ms = event.queued_ms;
    }
    EXPECT_EQ(answer.n_first, 1);
    const auto logprobs = batch.logprobs.begin() + event.logprobs_begin;
    std::vector<TokenLogprob> scored(logprobs, logprobs + event.logprobs_count);
    switch (event.kind) {
      case OutputEvent::Kind::kLogits:
        break;
      case OutputEvent::Kind::kToken:
        EXPECT_EQ(event.position, resumed_[event.id] + answer.tokens.size());
        answer.tokens.push_back(event.token);
        if (!scored.empty()) answer.logprobs.push_back(std::move(scored));
        break;
      case OutputEvent::Kind::kPromptLogprob:
        EXPECT_TRUE(answer.prompt_logprobs.emplace(event.position, std::move(scored)).second)
            << "prompt position " << event.position << " scored twice";
        break;
      case OutputEvent::Kind::kFinish:
        EXPECT_EQ(event.position, resumed_[event.id] + answer.tokens.size());
        answer.finish = event.finish;
        answer.stop_token = event.token;
        answer.status = event.status;
        break;
    }
  }
  for (const ResidencyEvent& event : batch.residency) {
    if (event.added) {
      EXPECT_TRUE(resident_.insert(event.digest).second);
    } else {
      EXPECT_EQ(resident_.erase(event.digest), 1u);
    }
  }
  for (const PrefixEvent& event : batch.prefixes) {
    if (event.added) {
      prefixes_.insert(event.key);
    } else {
      prefixes_.erase(event.key);
    }
  }
}

void EngineHarness::PumpUntil(const std::function<bool()>& done) {
  // A step of an emulated GPU takes seconds where the machine is busy: only silence shows a hang.
  constexpr absl::Duration kMostSilence = absl::Minutes(1);
  MonotonicTime heard = MonotonicNow();
  while (!done()) {
    ASSERT_LT(MonotonicNow() - heard, kMostSilence) << "what was waited for did not come";
    if (!engine_->WaitOutputs(&batch_, MonotonicNow() + absl::Milliseconds(20))) continue;
    Take(batch_);
    heard = MonotonicNow();
  }
}

void EngineHarness::PumpFor(absl::Duration time) {
  const MonotonicTime until = MonotonicNow() + time;
  while (MonotonicNow() < until) {
    if (engine_->WaitOutputs(&batch_, until)) Take(batch_);
  }
}

void EngineHarness::WaitFinished(uint64_t id) {
  PumpUntil([&] { return finished(id); });
}

const Answer& EngineHarness::Run(SequenceRequest request) {
  const uint64_t id = Submit(std::move(request));
  WaitFinished(id);
  return answers_[id];
}

std::vector<int32_t> TestPrompt(int n, int seed, int vocab_size) {
  std::vector<int32_t> ids(n);
  for (int i = 0; i < n; ++i) ids[i] = static_cast<int32_t>((i * 31 + seed * 977 + i * i % 13) % vocab_size);
  return ids;
}

SequenceRequest TestRequest(std::vector<int32_t> prompt, uint32_t max_tokens) {
  SequenceRequest request;
  request.prompt_ids = std::move(prompt);
  request.sampling.max_tokens = max_tokens;
  request.sampling.seed = 7;
  return request;
}

}  // namespace coterie
