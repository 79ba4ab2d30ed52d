#include "gateway/upstream/worker_stream.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "common/worker_protocol.h"

namespace coterie::gateway {
namespace {

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address) {
  grpc::ChannelArguments args;
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  args.SetMaxReceiveMessageSize(static_cast<int>(kMaxWorkerMessageBytes));
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), args);
}

}  // namespace

std::shared_ptr<WorkerStream> WorkerStream::Start(std::shared_ptr<Owner> owner, const std::string& address,
                                                  const v1::GatewayMessage& hello, size_t max_outgoing,
                                                  StreamReaper* reaper) {
  std::shared_ptr<WorkerStream> stream(new WorkerStream(std::move(owner), max_outgoing, reaper));
  stream->self_ = stream;
  reaper->Born();
  stream->stub_ = v1::WorkerService::NewStub(MakeChannel(address));
  stream->stub_->async()->Attach(&stream->context_, stream.get());
  // Send may start a write at any time from another thread; without the hold the call could end under it.
  stream->AddHold();
  stream->Send(hello);
  stream->StartRead(&stream->incoming_);
  stream->StartCall();
  return stream;
}

bool WorkerStream::Send(v1::GatewayMessage message) {
  MutexLock lock(&mutex_);
  if (ended_ || outgoing_.size() >= max_outgoing_) return false;
  outgoing_.push_back(std::move(message));
  if (outgoing_.size() == 1) StartWriteLocked();
  return true;
}

void WorkerStream::StartWriteLocked() {
  write_began_ = MonotonicNow();
  StartWrite(&outgoing_.front());
}

MonotonicTime WorkerStream::unwritten_since() {
  MutexLock lock(&mutex_);
  return ended_ || outgoing_.empty() ? MonotonicTime::InfiniteFuture() : write_began_;
}

void WorkerStream::OnWriteDone(bool ok) {
  MutexLock lock(&mutex_);
  outgoing_.pop_front();
  if (!ok) outgoing_.clear();  // the read in progress fails too and ends the stream
  if (ended_ || outgoing_.empty()) return;
  StartWriteLocked();
}

void WorkerStream::OnReadDone(bool ok) {
  if (ok) {
    owner_->OnMessage(this, incoming_);
    incoming_.Clear();
    StartRead(&incoming_);
    return;
  }
  {
    MutexLock lock(&mutex_);
    ended_ = true;
  }
  context_.TryCancel();
  RemoveHold();
}

void WorkerStream::OnDone(const grpc::Status& status) {
  {
    MutexLock lock(&mutex_);  // after Start, also where the thread that gRPC chose has seen none of our locks
    ended_ = true;
  }
  owner_->OnClosed(this, status);
  owner_.reset();
  StreamReaper* const reaper = reaper_;
  reaper->Bury(std::move(self_));
}

}  // namespace coterie::gateway
