#include "tests/gateway/fake_worker.h"

#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/clock.h"
#include "net/grpc_time.h"

namespace coterie::gateway::testing {
namespace {

uint64_t Mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

}  // namespace

int32_t FakeToken(uint64_t seed, uint32_t position, const std::string& adapter,
                  const std::string& numerics_class) {
  uint64_t hash = Mix(seed + 0x9e3779b97f4a7c15ULL);
  hash = Mix(hash ^ position);
  for (const char c : adapter) hash = Mix(hash ^ static_cast<unsigned char>(c));
  return static_cast<int32_t>((numerics_class == "fake" ? 'a' : 'A') + hash % 26);
}

std::string FakeText(uint64_t seed, uint32_t n_tokens, const std::string& adapter) {
  std::string text;
  for (uint32_t i = 0; i < n_tokens; ++i) text += static_cast<char>(FakeToken(seed, i, adapter));
  return text;
}

class FakeWorker::Service final : public v1::WorkerService::Service {
 public:
  explicit Service(FakeWorker* worker) : worker_(worker) {}
  grpc::Status Attach(grpc::ServerContext* context, Stream* stream) override {
    return worker_->Attach(context, stream);
  }

 private:
  FakeWorker* const worker_;
};

FakeWorker::FakeWorker(Options options)
    : options_(std::move(options)), incarnation_(absl::StrCat(absl::Hex(std::random_device()()))) {
  service_ = std::make_unique<Service>(this);
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddListeningPort(absl::StrCat("127.0.0.1:", options_.port), grpc::InsecureServerCredentials(),
                           &port_);
  builder.RegisterService(service_.get());
  server_ = builder.BuildAndStart();
  COTERIE_CHECK(server_ != nullptr && port_ > 0) << "no port for the fake worker";
  thread_ = std::thread([this] { Run(); });
}

FakeWorker::~FakeWorker() { Kill(); }

void FakeWorker::Kill() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    frozen_ = false;
    changed_.SignalAll();
  }
  if (server_ != nullptr) server_->Shutdown(net::GrpcDeadline(absl::ZeroDuration()));
  if (thread_.joinable()) thread_.join();
  server_.reset();
}

void FakeWorker::Freeze() {
  MutexLock lock(&mutex_);
  frozen_ = true;
}

void FakeWorker::Thaw() {
  MutexLock lock(&mutex_);
  frozen_ = false;
  changed_.SignalAll();
}

void FakeWorker::FailAll(grpc::StatusCode code, const std::string& message) {
  MutexLock lock(&mutex_);
  fail_code_ = code;
  fail_message_ = message;
}

void FakeWorker::LoseMember(const std::string& worker) {
  MutexLock lock(&mutex_);
  for (auto& [id, gateway] : gateways_) {
    for (auto& [sequence_id, sequence] : gateway.sequences) sequence.lost_worker = worker;
  }
}

void FakeWorker::BreakAdapter(const Digest& adapter, grpc::StatusCode code, bool marked) {
  MutexLock lock(&mutex_);
  broken_adapters_[adapter] = {code, marked};
}

void FakeWorker::MendAdapters() {
  MutexLock lock(&mutex_);
  broken_adapters_.clear();
}

void FakeWorker::HandOver() {
  MutexLock lock(&mutex_);
  draining_ = true;
  fail_code_ = grpc::StatusCode::UNAVAILABLE;
  fail_message_ = "the worker is shutting down; go on elsewhere";
}

size_t FakeWorker::live_sequences() const {
  MutexLock lock(&mutex_);
  size_t n = 0;
  for (const auto& [id, gateway] : gateways_) {
    for (const auto& [sequence_id, sequence] : gateway.sequences) n += !sequence.finished;
  }
  return n;
}

v1::Submit FakeWorker::last_submit() const {
  MutexLock lock(&mutex_);
  return last_submit_;
}

std::vector<v1::Submit> FakeWorker::scores() const {
  MutexLock lock(&mutex_);
  return scores_;
}

std::vector<Digest> FakeWorker::prefetches() const {
  MutexLock lock(&mutex_);
  return prefetches_;
}

v1::WorkerState FakeWorker::State() const {
  v1::WorkerState state;
  uint32_t running = 0;
  for (const auto& [id, gateway] : gateways_) {
    for (const auto& [sequence_id, sequence] : gateway.sequences) running += !sequence.finished;
  }
  state.set_running(running);
  state.set_kv_blocks_used(running);
  state.set_draining(options_.draining || draining_);
  state.set_device_lost(options_.device_lost);
  state.set_tokens_per_second(100);
  state.set_bytes_between_workers(options_.bytes_between_workers);
  if (options_.malformed_states) state.add_resident_added("abc");
  return state;
}

grpc::Status FakeWorker::Attach(grpc::ServerContext* context, Stream* stream) {
  v1::GatewayMessage message;
  if (!stream->Read(&message) || !message.has_hello()) {
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "the stream does not open with Hello");
  }
  const v1::GatewayHello hello = message.hello();
  ++n_hellos_;
  Gateway* gateway;
  {
    MutexLock lock(&mutex_);
    while (frozen_ && !stopping_) changed_.Wait(&mutex_);
    gateway = &gateways_[hello.gateway_id()];
    if (gateway->stream != nullptr) gateway->context->TryCancel();
    gateway->stream = stream;
    gateway->context = context;
    gateway->left = MonotonicTime::InfiniteFuture();
    gateway->awaits_reattach = std::exchange(gateway->attached_before, true);
    gateway->beat = absl::Milliseconds(hello.heartbeat_interval_ms());
    gateway->outgoing.clear();
    v1::WorkerMessage answer;
    v1::WorkerHello* mine = answer.mutable_hello();
    mine->set_protocol_version(options_.protocol_version);
    mine->set_worker_id(options_.worker_id);
    mine->set_incarnation(incarnation_);
    mine->set_base_digest(options_.base.ToBytes());
    mine->set_tokenizer_digest(options_.tokenizer.ToBytes());
    mine->set_numerics_class(options_.numerics_class);
    mine->set_device("none");
    mine->set_device_name(options_.device_name);
    if (options_.batch_invariant) mine->set_batch_invariant(*options_.batch_invariant);
    mine->set_max_sequence_tokens(options_.max_sequence_tokens);
    mine->set_kv_block_tokens(16);
    mine->set_kv_blocks(options_.kv_blocks);
    mine->set_adapter_slots(options_.adapter_slots);
    mine->set_max_waiting(options_.max_waiting);
    mine->set_max_running(16);
    mine->set_max_mixture_members(options_.max_mixture_members);
    mine->set_max_gangs(options_.max_gangs);
    mine->set_takes_constraints(options_.takes_constraints);
    for (const v1::GateKind kind : options_.gates) mine->add_gates(kind);
    mine->set_reattach_grace_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(options_.reattach_grace)));
    for (const std::string& pattern : options_.serves) mine->add_serves(pattern);
    for (const uint32_t id : options_.end_token_ids) mine->add_end_token_ids(id);
    *mine->mutable_state() = State();
    for (const Digest& digest : options_.resident)
      mine->mutable_state()->add_resident_added(digest.ToBytes());
    gateway->outgoing.push_back(std::move(answer));
    changed_.SignalAll();
  }
  while (stream->Read(&message)) {
    MutexLock lock(&mutex_);
    while (frozen_ && !stopping_) changed_.Wait(&mutex_);
    if (gateway->stream != stream) break;  // another one took its place
    Handle(gateway, message);
  }
  MutexLock lock(&mutex_);
  if (gateway->stream == stream) {
    gateway->stream = nullptr;
    gateway->context = nullptr;
    gateway->left = MonotonicNow();
  }
  return grpc::Status::OK;
}

void FakeWorker::Handle(Gateway* gateway, const v1::GatewayMessage& message) {
  switch (message.message_case()) {
    case v1::GatewayMessage::kSubmit: {
      const v1::Submit& submit = message.submit();
      ++n_submits_;
      last_submit_ = submit;
      if (submit.score_only()) scores_.push_back(submit);
      Sequence sequence{submit, static_cast<uint32_t>(submit.resume_ids_size()), submit.initial_credit()};
      size_t live = 0;
      for (const auto& [id, other] : gateway->sequences) live += !other.finished;
      sequence.refused = live >= options_.max_waiting;
      gateway->sequences[submit.sequence_id()] = std::move(sequence);
      break;
    }
    case v1::GatewayMessage::kCancel:
      ++n_cancels_;
      gateway->sequences.erase(message.cancel().sequence_id());
      break;
    case v1::GatewayMessage::kCredit: {
      const auto it = gateway->sequences.find(message.credit().sequence_id());
      if (it != gateway->sequences.end()) it->second.credit += message.credit().tokens();
      break;
    }
    case v1::GatewayMessage::kReattach: {
      ++n_reattaches_;
      gateway->awaits_reattach = false;
      std::map<uint64_t, Sequence> kept;
      for (const v1::Reattach::Position& position : message.reattach().sequences()) {
        auto it = gateway->sequences.find(position.sequence_id());
        if (it == gateway->sequences.end()) {
          v1::WorkerMessage answer;
          v1::SequenceOutput* output = answer.mutable_step()->add_outputs();
          output->set_sequence_id(position.sequence_id());
          output->set_finish(v1::FINISH_REASON_ERROR);
          output->set_error_code(grpc::StatusCode::NOT_FOUND);
          output->set_error_message("unknown sequence");
          gateway->outgoing.push_back(std::move(answer));
          continue;
        }
        Sequence sequence = std::move(it->second);
        sequence.next_position = position.next_position();
        sequence.credit = position.credit();
        sequence.finished = false;
        kept[position.sequence_id()] = std::move(sequence);
      }
      gateway->sequences = std::move(kept);
      break;
    }
    case v1::GatewayMessage::kPrefetch:
      prefetches_.push_back(Digest::FromBytes(message.prefetch().digest()).value());
      break;
    default:
      break;
  }
}

void FakeWorker::Produce(uint64_t id, Sequence* sequence, v1::Step* step) {
  const v1::Submit& submit = sequence->submit;
  v1::SequenceOutput* output = nullptr;
  const auto fail = [&](grpc::StatusCode code, const std::string& message) {
    output = step->add_outputs();
    output->set_sequence_id(id);
    output->set_finish(v1::FINISH_REASON_ERROR);
    output->set_error_code(code);
    output->set_error_message(message);
    sequence->finished = true;
  };
  if (sequence->refused) return fail(grpc::StatusCode::RESOURCE_EXHAUSTED, "the worker's queue is full");
  if (fail_code_ != grpc::StatusCode::OK) return fail(fail_code_, fail_message_);
  if (!sequence->lost_worker.empty()) {
    fail(grpc::StatusCode::UNAVAILABLE, "the gang is over");
    output->set_lost_worker(sequence->lost_worker);
    return;
  }
  for (const v1::AdapterUse& use : submit.adapters()) {
    const auto broken = broken_adapters_.find(Digest::FromBytes(use.digest()).value());
    if (broken == broken_adapters_.end()) continue;
    fail(broken->second.code, "adapter " + use.name() + " cannot be loaded");
    if (broken->second.marked) output->set_failed_adapter(use.digest());
    return;
  }
  const auto score_prompt = [&] {
    const Digest adapter =
        submit.adapters_size() == 0 ? Digest() : Digest::FromBytes(submit.adapters(0).digest()).value();
    const auto loss = options_.losses.find(adapter);
    for (int i = static_cast<int>(submit.prompt_logprobs_from()); i < submit.prompt_ids_size(); ++i) {
      v1::TokenLogprob* chosen = output->add_prompt_logprobs()->mutable_chosen();
      chosen->set_token_id(submit.prompt_ids(i));
      chosen->set_logprob(loss == options_.losses.end() ? -static_cast<float>(i) : -loss->second);
    }
  };
  if (submit.score_only()) {
    if (++sequence->n_steps < options_.score_steps) return;
    output = step->add_outputs();
    output->set_sequence_id(id);
    score_prompt();
    output->set_finish(v1::FINISH_REASON_LENGTH);
    sequence->finished = true;
    return;
  }
  if (sequence->credit <= 0) return;
  output = step->add_outputs();
  output->set_sequence_id(id);
  output->set_position(sequence->next_position);
  if (submit.has_prompt_logprobs_from() && sequence->n_steps++ == 0) score_prompt();
  if (options_.eos_at > 0 && sequence->next_position >= options_.eos_at) {
    output->set_finish(v1::FINISH_REASON_STOP);
    output->set_stop_token_id(256);
    sequence->finished = true;
    return;
  }
  const std::string adapter = submit.adapters_size() == 0 ? "" : submit.adapters(0).digest();
  const int32_t token =
      FakeToken(submit.sampling().seed(), sequence->next_position, adapter, options_.numerics_class);
  output->add_token_ids(static_cast<uint32_t>(token));
  if (submit.sampling().has_logprobs()) {
    v1::TokenLogprob* chosen = output->add_logprobs()->mutable_chosen();
    chosen->set_token_id(static_cast<uint32_t>(token));
    chosen->set_logprob(-0.5f);
    for (uint32_t i = 0; i < submit.sampling().logprobs(); ++i) {
      v1::TokenLogprob* top = output->mutable_logprobs(0)->add_top();
      top->set_token_id('a' + i);
      top->set_logprob(-1.0f - static_cast<float>(i));
    }
  }
  ++n_tokens_;
  ++sequence->next_position;
  --sequence->credit;
  if (sequence->next_position >= submit.sampling().max_tokens() ||
      submit.prompt_ids_size() + sequence->next_position >= options_.max_sequence_tokens) {
    output->set_finish(v1::FINISH_REASON_LENGTH);
    sequence->finished = true;
  }
}

void FakeWorker::StepLocked(Gateway* gateway) {
  const MonotonicTime now = MonotonicNow();
  if (gateway->stream == nullptr) {
    if (now - gateway->left > options_.reattach_grace) gateway->sequences.clear();
    return;  // a real one goes on within its credit; here the gateway's position decides anyway
  }
  v1::WorkerMessage message;
  uint32_t n_seated = 0;
  for (auto& [id, sequence] : gateway->sequences) {
    if (sequence.finished || gateway->awaits_reattach) continue;
    if (sequence.credit > 0 && !sequence.refused && options_.seats > 0 && ++n_seated > options_.seats) {
      continue;
    }
    Produce(id, &sequence, message.mutable_step());
  }
  if (message.has_step() && message.step().outputs_size() > 0) {
    *message.mutable_step()->mutable_state() = State();
    gateway->outgoing.push_back(std::move(message));
  } else if (now >= gateway->next_beat) {
    v1::WorkerMessage beat;
    *beat.mutable_heartbeat()->mutable_state() = State();
    gateway->outgoing.push_back(std::move(beat));
    gateway->next_beat = now + gateway->beat;
  }
}

void FakeWorker::Run() {
  while (true) {
    MutexLock lock(&mutex_);
    const MonotonicTime next = MonotonicNow() + options_.step;
    while (!stopping_ && (frozen_ || MonotonicNow() < next)) {
      if (frozen_) {
        changed_.Wait(&mutex_);
      } else {
        changed_.WaitUntil(&mutex_, next);
      }
    }
    if (stopping_) return;
    for (auto& [id, gateway] : gateways_) {
      // Hello goes out before anything else, then what Handle left, then this step.
      StepLocked(&gateway);
      while (gateway.stream != nullptr && !gateway.outgoing.empty()) {
        // Written under the lock: the stream cannot end meanwhile. The gateway always reads.
        if (!gateway.stream->Write(gateway.outgoing.front())) {
          gateway.outgoing.clear();
          break;
        }
        gateway.outgoing.pop_front();
      }
    }
  }
}

}  // namespace coterie::gateway::testing
