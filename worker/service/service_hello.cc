// A gateway attaches: whether it may, its session, and what the worker says of itself. WorkerServiceImpl.
#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "common/clock.h"
#include "common/log/named.h"
#include "common/quoted.h"
#include "common/worker_protocol.h"
#include "kernels/decoder_ops.h"
#include "spdlog/spdlog.h"
#include "worker/service/convert.h"
#include "worker/service/worker_service.h"

namespace coterie::worker {
namespace {

absl::Duration ClampMs(uint32_t ms, absl::Duration low, absl::Duration high) {
  return std::clamp(absl::Milliseconds(ms), low, high);
}

}  // namespace

grpc::Status WorkerServiceImpl::CheckHello(const v1::GatewayHello& hello) const {
  if (hello.gateway_id().empty() || hello.gateway_id().size() > kMaxGatewayIdBytes) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            absl::StrCat("hello.gateway_id has ", hello.gateway_id().size(), " bytes; it must have 1 to ",
                         kMaxGatewayIdBytes)};
  }
  // It stands in the log.
  if (!std::all_of(hello.gateway_id().begin(), hello.gateway_id().end(), absl::ascii_isgraph)) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            "hello.gateway_id holds other characters than printable ones of ASCII"};
  }
  if (hello.stream_key().size() > kMaxStreamKeyBytes) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            absl::StrCat("hello.stream_key has ", hello.stream_key().size(), " bytes; it may have ",
                         kMaxStreamKeyBytes)};
  }
  if (hello.protocol_version() != kWorkerProtocolVersion) {
    return {grpc::StatusCode::FAILED_PRECONDITION,
            absl::StrCat("the gateway speaks protocol ", hello.protocol_version(), ", this worker speaks ",
                         kWorkerProtocolVersion)};
  }
  struct Pair {
    const char* what;
    const std::string& theirs;
    Digest ours;
  };
  for (const Pair& pair : {Pair{"base", hello.base_digest(), engine_->model_info().base_digest},
                           Pair{"tokenizer", hello.tokenizer_digest(), options_.tokenizer_digest}}) {
    const StatusOr<Digest> theirs = Digest::FromBytes(pair.theirs);
    if (!theirs.ok()) {
      return ToGrpc(Annotate(theirs.status(), absl::StrCat("hello.", pair.what, "_digest").c_str()));
    }
    if (*theirs != pair.ours) {
      return {grpc::StatusCode::FAILED_PRECONDITION,
              absl::StrCat("the gateway works with ", pair.what, " ", theirs->Short(), ", this worker with ",
                           pair.what, " ", pair.ours.Short())};
    }
  }
  return grpc::Status::OK;
}

void WorkerServiceImpl::RefuseHello(AttachStream* stream, const std::string& gateway_id,
                                    const grpc::Status& status) {
  if (const auto n_left_out = refused_hellos_.Note(MonotonicNow())) {
    spdlog::warn("gateway {} at {} refused: {} ({} more refused since the last such line)",
                 Named("gateway", absl::CHexEscape(gateway_id.substr(0, 80))), Named("peer", stream->peer()),
                 Named("why", status.error_message()), Named("left_out", *n_left_out));
  }
  stream->End(status);
}

void WorkerServiceImpl::Welcome(AttachStream* stream, const v1::GatewayMessage& message) {
  if (stream->unproven) {
    if (message.has_challenge_answer()) return CheckAnswer(stream, message.challenge_answer());
    return stream->End({grpc::StatusCode::UNAUTHENTICATED,
                        "the answer to this worker's challenge must come before anything else"});
  }
  if (!message.has_hello()) {
    return stream->End({grpc::StatusCode::INVALID_ARGUMENT, "the first message of a stream must be hello"});
  }
  if (options_.secret != nullptr) return SendChallenge(stream, message.hello());
  OnHello(stream, message.hello());
}

void WorkerServiceImpl::SendChallenge(AttachStream* stream, const v1::GatewayHello& hello) {
  if (hello.gateway_id().size() > kMaxGatewayIdBytes) return OnHello(stream, hello);  // says what is wrong
  if (hello.nonce().size() != SharedSecret::kNonceBytes) {
    return RefuseHello(stream, hello.gateway_id(),
                       {grpc::StatusCode::UNAUTHENTICATED,
                        "this worker asks its gateways for a shared secret (its --gateway-secret); start the "
                        "gateway with the same in --worker-secret"});
  }
  stream->unproven.emplace();
  stream->unproven->hello = hello;
  HandshakeFacts& facts = stream->unproven->facts;
  facts = {hello.gateway_id(), hello.nonce(), SharedSecret::DrawNonce()};
  v1::Challenge* challenge = stream->outgoing()->mutable_challenge();
  challenge->set_nonce(facts.worker_nonce);
  challenge->set_proof(options_.secret->Prove(SharedSecret::Side::kWorker, facts));
  stream->Write();
}

void WorkerServiceImpl::CheckAnswer(AttachStream* stream, const v1::ChallengeAnswer& answer) {
  AttachStream::Unproven& unproven = *stream->unproven;
  if (!options_.secret->Believes(SharedSecret::Side::kGateway, unproven.facts, answer.proof())) {
    return RefuseHello(stream, unproven.hello.gateway_id(),
                       {grpc::StatusCode::UNAUTHENTICATED,
                        "the gateway does not know this worker's shared secret: its --worker-secret and the "
                        "worker's --gateway-secret must have a line in common"});
  }
  unproven.proven = true;
  if (!stream->can_write()) return;  // the challenge is still on its way: OnWritten goes on
  const v1::GatewayHello hello = unproven.hello;
  stream->unproven.reset();
  OnHello(stream, hello);
}

bool WorkerServiceImpl::MakePlace() {
  if (sessions_.size() < static_cast<size_t>(options_.max_gateways)) return true;
  const GatewaySession* idle = nullptr;
  for (const auto& [id, session] : sessions_) {
    if (session->has_asked) continue;
    if (idle == nullptr || session->attached_at < idle->attached_at) idle = session.get();
  }
  if (idle == nullptr) return false;
  const std::string id = idle->id();
  if (idle->stream != nullptr) {
    idle->stream->End({grpc::StatusCode::RESOURCE_EXHAUSTED,
                       absl::StrCat("this worker serves at most ", options_.max_gateways,
                                    " gateways, and this one had asked for nothing when another came")},
                      /*abandon=*/true);
  }
  ForgetGateway(id);
  return true;
}

void WorkerServiceImpl::OnHello(AttachStream* stream, const v1::GatewayHello& hello) {
  const MonotonicTime now = MonotonicNow();
  if (const grpc::Status status = CheckHello(hello); !status.ok()) {
    return RefuseHello(stream, hello.gateway_id(), status);
  }
  const auto found = sessions_.find(hello.gateway_id());
  const bool known = found != sessions_.end();
  if (known && found->second->stream_key != hello.stream_key()) {
    return RefuseHello(stream, hello.gateway_id(),
                       {grpc::StatusCode::PERMISSION_DENIED,
                        "a gateway of this gateway_id is attached, and this is not it: each process draws "
                        "its own"});
  }
  if (!known && !MakePlace()) {
    return stream->End({grpc::StatusCode::RESOURCE_EXHAUSTED,
                        absl::StrCat("this worker serves at most ", options_.max_gateways, " gateways")});
  }
  std::unique_ptr<GatewaySession>& session = sessions_[hello.gateway_id()];
  if (session == nullptr) {
    session = std::make_unique<GatewaySession>(hello.gateway_id());
    session->stream_key = hello.stream_key();
    session->attached_at = now;
  }
  BeginStream(session.get(), stream, hello, now);
  SayHello(session.get());
  timers_changed_ = true;
  engine_->InterruptWait();  // the dispatcher has a new clock to watch
  spdlog::info("gateway {} {} from {}", Named("gateway", session->id()),
               Named("state", known ? "came back" : "attached"), Named("peer", stream->peer()));
}

void WorkerServiceImpl::BeginStream(GatewaySession* session, AttachStream* stream,
                                    const v1::GatewayHello& hello, MonotonicTime now) {
  if (session->stream != nullptr) {
    session->stream->End({grpc::StatusCode::ABORTED, "a newer stream of this gateway took this one's place"},
                         /*abandon=*/true);
  }
  stream->gateway_id = hello.gateway_id();
  session->stream = stream;
  session->heartbeat_interval =
      ClampMs(hello.heartbeat_interval_ms(), kMinHeartbeatInterval, kMaxHeartbeatInterval);
  session->silence_timeout = ClampMs(hello.silence_timeout_ms(),
                                     kMinSilentHeartbeats * session->heartbeat_interval, kMaxSilenceTimeout);
  session->last_heard = now;
  session->next_heartbeat = now + session->heartbeat_interval;
  session->away_since = MonotonicTime::InfiniteFuture();
  session->Suspend(now);
  session->report.Reset();
  session->prefixes_told_at = now;
}

void WorkerServiceImpl::SayHello(GatewaySession* session) {
  const LanguageModelInfo& model = engine_->model_info();
  v1::WorkerHello* out = session->stream->outgoing()->mutable_hello();
  out->set_protocol_version(kWorkerProtocolVersion);
  out->set_worker_id(options_.worker_id);
  out->set_incarnation(incarnation_);
  out->set_base_digest(model.base_digest.ToBytes());
  out->set_tokenizer_digest(options_.tokenizer_digest.ToBytes());
  out->set_numerics_class(model.numerics_class);
  out->set_batch_invariant(model.batch_invariant);
  out->set_device(options_.device);
  out->set_device_name(Shown(model.device_name));
  out->set_max_sequence_tokens(static_cast<uint32_t>(engine_->max_sequence_tokens()));
  out->set_kv_block_tokens(kKvBlockTokens);
  out->set_kv_blocks(static_cast<uint32_t>(model.n_kv_blocks));
  out->set_adapter_slots(static_cast<uint32_t>(engine_->options().adapters.n_slots));
  out->set_max_waiting(static_cast<uint32_t>(engine_->options().max_waiting));
  out->set_takes_constraints(engine_->takes_constraints());
  out->set_max_mixture_members(static_cast<uint32_t>(engine_->max_mixture_members()));
  for (const GateKind kind : model.gates) out->add_gates(static_cast<v1::GateKind>(kind));
  if (gangs_ != nullptr) out->set_max_gangs(static_cast<uint32_t>(gangs_->max_gangs()));
  out->set_max_running(static_cast<uint32_t>(engine_->options().max_seqs));
  out->set_reattach_grace_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(options_.reattach_grace)));
  for (const std::string& pattern : options_.serves) out->add_serves(pattern);
  for (const int id : model.eos_token_ids) out->add_end_token_ids(static_cast<uint32_t>(id));
  FillState(session, /*with_prefixes=*/true, out->mutable_state());
  session->stream->Write();
}

}  // namespace coterie::worker
