#include "gateway/upstream/worker_stream.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "common/worker_protocol.h"
#include "net/tls_credentials.h"

namespace coterie::gateway {
namespace {

std::shared_ptr<grpc::Channel> MakeChannel(const WorkerStream::Target& target) {
  grpc::ChannelArguments args;
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  args.SetMaxReceiveMessageSize(static_cast<int>(kMaxWorkerMessageBytes));
  if (target.tls == nullptr) {
    return grpc::CreateCustomChannel(target.address, grpc::InsecureChannelCredentials(), args);
  }
  if (!target.tls_name.empty()) args.SetSslTargetNameOverride(target.tls_name);
  return grpc::CreateCustomChannel(target.address, net::TlsChannelCredentials(*target.tls->Current()), args);
}

}  // namespace

std::shared_ptr<WorkerStream> WorkerStream::Start(std::shared_ptr<Owner> owner, const Target& target,
                                                  v1::GatewayMessage hello, size_t max_outgoing,
                                                  StreamThreads* threads) {
  std::shared_ptr<WorkerStream> stream(new WorkerStream(std::move(owner), max_outgoing, threads));
  stream->self_ = stream;
  stream->stub_ = v1::WorkerService::NewStub(MakeChannel(target));
  stream->call_ = stream->stub_->PrepareAsyncAttach(&stream->context_, threads->queue());
  stream->Send(std::move(hello));
  stream->call_->StartCall(&stream->start_);
  return stream;
}

bool WorkerStream::Send(v1::GatewayMessage message) {
  MutexLock lock(&mutex_);
  if (ended_ || outgoing_.size() >= max_outgoing_) return false;
  outgoing_.push_back(std::move(message));
  if (outgoing_.size() > 1) return true;
  waiting_since_ = MonotonicNow();
  if (started_) StartWriteLocked();
  return true;
}

void WorkerStream::StartWriteLocked() {
  writing_ = true;
  call_->Write(outgoing_.front(), &write_);
}

MonotonicTime WorkerStream::unwritten_since() {
  MutexLock lock(&mutex_);
  return ended_ || outgoing_.empty() ? MonotonicTime::InfiniteFuture() : waiting_since_;
}

void WorkerStream::OnStarted(bool ok) {
  if (!ok) return End();
  {
    MutexLock lock(&mutex_);
    started_ = true;
    StartWriteLocked();  // the hello at least
  }
  call_->Read(&incoming_, &read_);
}

void WorkerStream::OnWritten(bool ok) {
  const std::shared_ptr<WorkerStream> self = shared_from_this();  // beside OnFinished, either may be the last
  {
    MutexLock lock(&mutex_);
    writing_ = false;
    outgoing_.pop_front();
    if (!ok) outgoing_.clear();  // the read in progress fails too and ends the stream
    if (!ended_ && !outgoing_.empty()) {
      waiting_since_ = MonotonicNow();
      return StartWriteLocked();
    }
    if (!finished_) return;
  }
  Close();
}

void WorkerStream::OnRead(bool ok) {
  if (!ok) return End();
  owner_->OnMessage(this, incoming_);
  incoming_.Clear();
  call_->Read(&incoming_, &read_);
}

void WorkerStream::End() {
  bool is_writing;
  {
    MutexLock lock(&mutex_);
    ended_ = true;
    is_writing = writing_;
  }
  // First: to cancel before it would put CANCELLED in the place of why the worker ended the stream.
  call_->Finish(&status_, &finish_);
  if (is_writing) context_.TryCancel();  // a write would wait for a peer that takes nothing
}

void WorkerStream::OnFinished(bool) {
  const std::shared_ptr<WorkerStream> self = shared_from_this();
  {
    MutexLock lock(&mutex_);
    finished_ = true;
    if (writing_) return;
  }
  Close();
}

void WorkerStream::Close() {
  owner_->OnClosed(this, status_);
  owner_.reset();
  self_.reset();  // whoever calls this holds another one
}

}  // namespace coterie::gateway
