#ifndef COTERIE_WORKER_RENDEZVOUS_RENDEZVOUS_CLIENT_H_
#define COTERIE_WORKER_RENDEZVOUS_RENDEZVOUS_CLIENT_H_

#include <memory>
#include <string>

#include "kernels/comm/rendezvous.h"

namespace grpc {
class ChannelCredentials;
}

namespace coterie::worker {

struct RendezvousClientOptions {
  std::string address;  // host:port of the member that serves the group
  std::string token;    // of the group (MakeRendezvousToken)
  // Who serves it, for messages: 'member 0 "worker-a"'.
  std::string server = "the gang's leader";
  std::shared_ptr<grpc::ChannelCredentials> credentials;  // null: no encryption
};

// The rendezvous that another process serves. Thread-safe.
//
// Until it has answered once, its server may be on its way: calls wait for it, to their deadlines. From then
// on a server that has gone ends every call at once. Unavailable, naming server and address: it was not
// reached by the deadline, its connection is lost, or it stands still, which a call whose deadline has passed
// finds out by asking for what it has published before (kAskAgain).
class RendezvousClient : public Rendezvous {
 public:
  static constexpr absl::Duration kAskAgain = absl::Seconds(1);

  explicit RendezvousClient(RendezvousClientOptions options);
  ~RendezvousClient() override;

  Status Publish(const RendezvousKey& key, const std::string& text, MonotonicTime deadline,
                 const AbortFlag& abort) override;
  StatusOr<std::string> Await(const RendezvousKey& key, MonotonicTime deadline,
                              const AbortFlag& abort) override;

 private:
  class Wire;
  const std::unique_ptr<Wire> wire_;
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_RENDEZVOUS_RENDEZVOUS_CLIENT_H_
