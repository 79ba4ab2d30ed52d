// What comes over the wire. The first byte says from whom, the rest is a message (from clients), or messages
// each with its length before it (on the streams of gateways and workers). Whatever is accepted keeps the
// promises of the next room: what the gateway takes a worker takes too, and a worker ends everything it took
// exactly once.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "common/check.h"
#include "common/clock.h"
#include "common/file.h"
#include "gateway/grpc/convert_client.h"
#include "gateway/upstream/convert_worker.h"
#include "gateway/upstream/worker_state.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "google/protobuf/util/delimited_message_util.h"
#include "worker/engine/engine.h"
#include "worker/engine/fake_model.h"
#include "worker/service/convert.h"

namespace coterie {
namespace {

constexpr int kVocabulary = 300;
constexpr int kMaxStreamMessages = 16;
constexpr absl::Duration kPatience = absl::Seconds(8);  // less than libFuzzer's own

gateway::RequestLimits SmallLimits() {
  gateway::RequestLimits limits;
  limits.max_input_bytes = 256;
  limits.max_messages = 4;
  limits.max_tags = 3;
  limits.max_allowed_experts = 3;
  return limits;
}

// The input's messages, as a stream brings them; stops at the first that does not parse.
template <typename Message>
std::vector<Message> ReadMessages(const uint8_t* data, size_t n_bytes) {
  google::protobuf::io::ArrayInputStream input(data, static_cast<int>(n_bytes));
  std::vector<Message> messages;
  Message message;
  bool clean_eof = false;
  while (messages.size() < kMaxStreamMessages &&
         google::protobuf::util::ParseDelimitedFromZeroCopyStream(&message, &input, &clean_eof)) {
    messages.push_back(std::move(message));
    message.Clear();
  }
  return messages;
}

// --- Clients to the gateway ---

void CheckContext(const gateway::RequestContext& context, const gateway::RequestLimits& limits) {
  COTERIE_CHECK(!context.tenant.empty() && context.tenant.size() <= limits.max_label_bytes);
  COTERIE_CHECK(!context.trace_id.empty() && context.trace_id.size() <= limits.max_label_bytes);
}

void Generate(const uint8_t* data, size_t n_bytes) {
  v1::GenerateRequest proto;
  if (!proto.ParseFromArray(data, static_cast<int>(n_bytes))) return;
  const gateway::RequestLimits limits = SmallLimits();
  const auto request = gateway::FromProto(proto, limits, kVocabulary);
  if (!request.ok()) return;
  CheckContext(request->context, limits);
  COTERIE_CHECK_LE(request->input.QuestionText().size(), limits.max_input_bytes);

  // On to a worker.
  SequenceRequest sequence;
  sequence.prompt_ids = {1, 2, 3};
  sequence.sampling = request->sampling;
  sequence.tenant = request->context.tenant;
  sequence.priority = request->context.priority;
  sequence.cache_salt = request->context.cache_salt;
  const v1::Submit submit = gateway::SubmitToProto(7, sequence, MonotonicTime::Epoch());
  const StatusOr<SequenceRequest> taken = worker::RequestFromProto(submit, MonotonicTime::Epoch());
  COTERIE_CHECK(taken.ok()) << taken.status();
  const Status valid = ValidateSamplingParams(taken->sampling, kVocabulary);
  COTERIE_CHECK(valid.ok()) << valid;
  COTERIE_CHECK_EQ(taken->sampling.max_tokens, request->sampling.max_tokens);
  COTERIE_CHECK_EQ(taken->sampling.logit_bias.size(), request->sampling.logit_bias.size());
}

void Score(const uint8_t* data, size_t n_bytes) {
  v1::ScoreRequest proto;
  if (!proto.ParseFromArray(data, static_cast<int>(n_bytes))) return;
  const gateway::RequestLimits limits = SmallLimits();
  const auto request = gateway::FromProto(proto, limits);
  if (!request.ok()) return;
  CheckContext(request->context, limits);
  COTERIE_CHECK(!request->completion.empty() && request->top_logprobs <= kMaxLogprobs);
}

void Route(const uint8_t* data, size_t n_bytes) {
  v1::RouteRequest proto;
  if (!proto.ParseFromArray(data, static_cast<int>(n_bytes))) return;
  const gateway::RequestLimits limits = SmallLimits();
  const auto request = gateway::FromProto(proto, limits);
  if (!request.ok()) return;
  CheckContext(request->context, limits);
  COTERIE_CHECK(!request->input.empty());
}

// --- A worker to the gateway ---

void WorkerStream(const uint8_t* data, size_t n_bytes) {
  const auto board = std::make_shared<gateway::WorkerBoard>();
  gateway::WorkerStateFold fold(board, "a-worker");
  fold.Stand({.alive_until = MonotonicTime::InfiniteFuture(), .assigned = 3});
  const Placer placer = Placer::Create({}).value();
  PlacementRequest request;
  request.adapters.push_back({"an-expert", Sha256("an-expert"), 1});
  static constexpr PrefixKey kAsked[] = {1, 2, 3};
  request.prefix_keys = kAsked;
  for (v1::WorkerMessage& message : ReadMessages<v1::WorkerMessage>(data, n_bytes)) {
    const v1::WorkerState* state = nullptr;
    switch (message.message_case()) {
      case v1::WorkerMessage::kHello:
        if (auto hello = gateway::HelloFromProto(message.hello()); hello.ok()) fold.Identify(*hello);
        state = &message.hello().state();
        break;
      case v1::WorkerMessage::kStep:
        for (v1::SequenceOutput& output : *message.mutable_step()->mutable_outputs()) {
          const size_t n_tokens = output.token_ids_size();
          const gateway::SequenceOutput plain = gateway::OutputFromProto(std::move(output));
          COTERIE_CHECK_EQ(plain.token_ids.size(), n_tokens);
          COTERIE_CHECK_EQ(plain.finish == FinishReason::kError, !plain.error.ok());
        }
        state = &message.step().state();
        break;
      case v1::WorkerMessage::kHeartbeat:
        state = &message.heartbeat().state();
        break;
      case v1::WorkerMessage::kChallenge:
      case v1::WorkerMessage::MESSAGE_NOT_SET:
        continue;
    }
    const auto update = gateway::StateFromProto(*state);
    if (!update.ok()) continue;
    fold.Apply(*update);
    board->With([&](WorkerTable& table) {
      const WorkerRow& row = table.at(0);
      COTERIE_CHECK(row.max_running >= 1 && row.kv_blocks_free <= row.kv_blocks_total);
      request.base = row.base;
      const auto placement = placer.Place(request, table, MonotonicTime::Epoch());
      COTERIE_CHECK(!placement.ok() || placement->cost_seconds >= 0) << placement->reason;
    });
  }
}

// --- A gateway to a worker ---

// Two adapters that load ("a", "b"); no other is found.
StatusOr<std::filesystem::path> FindAdapter(const Digest& digest) {
  static const std::filesystem::path folder = [] {
    std::string pattern = (std::filesystem::temp_directory_path() / "coterie_request_fuzz_XXXXXX").string();
    std::filesystem::path made = mkdtemp(pattern.data());
    for (const char* name : {"a", "b"}) {
      std::filesystem::create_directory(made / Sha256(name).ToHex());
      const Status written = WriteFileAtomically(made / Sha256(name).ToHex() / "adapter_config.json", "{}");
      COTERIE_CHECK(written.ok()) << written;
    }
    return made;
  }();
  std::filesystem::path found = folder / digest.ToHex();
  if (!std::filesystem::exists(found)) return absl::NotFoundError("no such adapter");
  return found;
}

struct Taken {
  size_t max_tokens = 0;
  size_t n_tokens = 0;
  int n_finished = 0;
};

void TakeEvents(const OutputBatch& batch, std::map<uint64_t, Taken>* taken) {
  for (const OutputEvent& event : batch.events) {
    COTERIE_CHECK(taken->contains(event.id));
    Taken& sequence = (*taken)[event.id];
    COTERIE_CHECK_EQ(sequence.n_finished, 0);
    COTERIE_CHECK_LE(size_t{event.logprobs_begin} + event.logprobs_count, batch.logprobs.size());
    if (event.kind == OutputEvent::Kind::kToken) {
      COTERIE_CHECK(event.token >= 0 && event.token < kVocabulary);
      COTERIE_CHECK_LE(++sequence.n_tokens, sequence.max_tokens);
    }
    if (event.kind == OutputEvent::Kind::kFinish) {
      sequence.n_finished++;
      COTERIE_CHECK_EQ(event.finish == FinishReason::kError, !event.status.ok());
    }
  }
}

void GatewayStream(const uint8_t* data, size_t n_bytes) {
  const std::vector<v1::GatewayMessage> messages = ReadMessages<v1::GatewayMessage>(data, n_bytes);
  if (messages.empty()) return;
  FakeModelOptions model_options;
  model_options.vocab_size = kVocabulary;
  model_options.context_length = 128;
  model_options.n_kv_blocks = 10;  // too few for two long sequences: preemption
  model_options.eos_token_ids = {0};
  FakeModel model(model_options);
  EngineOptions options;
  options.max_batch_tokens = 24;
  options.max_seqs = 3;
  options.max_waiting = 3;
  options.max_logit_rows = 8;
  options.slot_patience = absl::Milliseconds(1);
  options.adapters.n_slots = 2;
  auto engine = Engine::Create(options, &model, FindAdapter);
  COTERIE_CHECK(engine.ok()) << engine.status();

  std::map<uint64_t, Taken> taken;
  for (const v1::GatewayMessage& message : messages) {
    if (message.has_submit()) {
      StatusOr<SequenceRequest> request = worker::RequestFromProto(message.submit(), MonotonicNow());
      if (!request.ok()) continue;
      request->id = message.submit().sequence_id();
      if (taken.contains(request->id)) continue;  // the service's to refuse
      const size_t max_tokens = request->sampling.max_tokens;
      const uint64_t id = request->id;
      taken[id] = {.max_tokens = max_tokens};
      if (!(*engine)->Submit(*std::move(request)).ok()) taken.erase(id);
    } else if (message.has_cancel()) {
      (*engine)->Cancel(message.cancel().sequence_id());
    } else if (message.has_credit()) {
      (*engine)->AddCredit(message.credit().sequence_id(), message.credit().tokens());
    } else if (message.has_prefetch()) {
      if (const auto digest = Digest::FromBytes(message.prefetch().digest()); digest.ok()) {
        (*engine)->Prefetch(*digest);
      }
    } else if (message.has_reattach()) {
      for (const auto& position : message.reattach().sequences()) {
        (*engine)->SetCreditUntil(position.sequence_id(), position.next_position());
      }
    }
  }
  for (const auto& [id, sequence] : taken) (*engine)->AddCredit(id, kMaxCredit);
  const MonotonicTime deadline = MonotonicNow() + kPatience;
  OutputBatch batch;
  while (std::any_of(taken.begin(), taken.end(), [](const auto& s) { return s.second.n_finished == 0; })) {
    COTERIE_CHECK((*engine)->WaitOutputs(&batch, deadline)) << "a sequence does not end";
    TakeEvents(batch, &taken);
  }
}

}  // namespace
}  // namespace coterie

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n_bytes) {
  if (n_bytes == 0) return 0;
  using Try = void (*)(const uint8_t*, size_t);
  static constexpr Try kTries[] = {coterie::Generate, coterie::Score, coterie::Route, coterie::WorkerStream,
                                   coterie::GatewayStream};
  kTries[data[0] % std::size(kTries)](data + 1, n_bytes - 1);
  return 0;
}
