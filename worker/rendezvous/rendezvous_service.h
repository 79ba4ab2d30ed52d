#ifndef COTERIE_WORKER_RENDEZVOUS_RENDEZVOUS_SERVICE_H_
#define COTERIE_WORKER_RENDEZVOUS_RENDEZVOUS_SERVICE_H_

#include <memory>
#include <string>

#include "common/metrics.h"
#include "coterie/v1/rendezvous.grpc.pb.h"
#include "kernels/comm/in_process_rendezvous.h"
#include "net/bad_calls.h"

namespace coterie::worker {

// coterie.v1.RendezvousService, of the member that serves the gangs it leads. Register it with a server; this
// member's own communicators take local(). Thread-safe.
//
// No thread waits for a waiting call, whose place is free as soon as its client has gone, its deadline has
// passed or its group is over. A call must have a deadline, at most kMaxCommTimeout from when it comes.
class RendezvousServiceImpl final : public v1::RendezvousService::CallbackService {
 public:
  // `registry` is borrowed and may be null.
  explicit RendezvousServiceImpl(RendezvousLimits limits = {}, MetricsRegistry* registry = nullptr);

  // Serves a group to those who know the token (MakeRendezvousToken). AlreadyExists: it is open. Close it
  // when the gang has ended; one that nobody asks for any more closes by itself
  // (RendezvousLimits::idle_time).
  Status Open(const std::string& group, const std::string& token) { return store_->Open(group, token); }
  void Close(const std::string& group) { store_->Forget(group); }

  const std::shared_ptr<InProcessRendezvous>& local() const { return store_; }

  grpc::ServerUnaryReactor* Publish(grpc::CallbackServerContext* context, const v1::PublishRequest* request,
                                    v1::PublishResponse* response) override;
  grpc::ServerUnaryReactor* Await(grpc::CallbackServerContext* context, const v1::AwaitRequest* request,
                                  v1::AwaitResponse* response) override;

 private:
  // Who asks, and whether the call is bounded; the key in our own form.
  StatusOr<RendezvousKey> Admit(const grpc::CallbackServerContext& context, const v1::RendezvousKey& key);

  const std::shared_ptr<InProcessRendezvous> store_;
  net::BadCalls bad_calls_;
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_RENDEZVOUS_RENDEZVOUS_SERVICE_H_
