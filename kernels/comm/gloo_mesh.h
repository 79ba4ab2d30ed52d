#ifndef COTERIE_KERNELS_COMM_GLOO_MESH_H_
#define COTERIE_KERNELS_COMM_GLOO_MESH_H_

#include <gloo/transport/context.h>
#include <gloo/transport/device.h>
#include <sys/socket.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/comm/communicator.h"
#include "kernels/comm/gloo_waiter.h"
#include "kernels/comm/member_card.h"
#include "kernels/comm/transport.h"

namespace coterie {

// What Gloo makes of a member's address: a sockaddr_storage and a number.
inline constexpr size_t kGlooAddressBytes = sizeof(sockaddr_storage) + sizeof(ssize_t);
inline constexpr uint64_t kGlooFarewellSlot = 3, kGlooWatchSlot = 4;

// Whether libgloo finds our getpeername (gloo_getpeername.cc) before the system's, as it should in a program
// that links this library.
bool GlooAsksUsForPeers();

// Messages over Gloo's TCP connections, one for each pair of members.
//
// Gloo moves a message only when its receiver has asked for it, and ends the process when more comes than was
// asked for. So each message is a frame of at most kFrameBytes, header first; the rest of a long one is asked
// for when the header has been found to say what is expected. Two more receives wait on each connection all
// the time: that of the farewell, by which a member tells why it leaves, and one that nobody answers, which
// is sure to be notified when the connection breaks (Gloo forgets buffers that are half sent or half
// received).
class GlooMesh : public Transport {
 public:
  // Opens a port for each other member; Details() is for the card.
  static StatusOr<std::unique_ptr<GlooMesh>> Listen(const std::string& address,
                                                    const CommunicatorOptions& options);
  ~GlooMesh() override;

  std::string Details() const;
  // Connects to everybody by the deadline; a member that cannot be reached is named.
  std::optional<Loss> Connect(const std::vector<MemberCard>& cards, MonotonicTime deadline);

  std::optional<Loss> Exchange(const MessageHeader& header, std::span<const Transfer> transfers,
                               const TransferWait& wait) override;
  void Leave(const Loss& why) override;

 private:
  static constexpr size_t kFrameBytes = 4096;
  static constexpr size_t kInlineBytes = kFrameBytes - sizeof(MessageHeader);
  using Buffer = gloo::transport::UnboundBuffer;

  struct Peer {
    std::array<std::byte, kFrameBytes> frame_out, frame_in;
    std::array<std::byte, Loss::kMaxBytes> farewell_out, farewell_in;
    std::byte never;
    std::unique_ptr<Buffer> sender, receiver, farewell_sender, farewell_receiver, watch;
    bool gone = false;  // nothing more comes or goes
  };
  // A transfer under way.
  struct Flight {
    enum Stage { kFrame, kRest, kSending, kDone } stage = kFrame;
    bool frame_sent = false;
    std::unique_ptr<Buffer> rest_in, rest_out;
  };

  explicit GlooMesh(const CommunicatorOptions& options) : options_(options) {}
  std::unique_ptr<Buffer> MakeBuffer(void* data, size_t n_bytes) const;
  Peer& peer(int rank) { return *peers_[static_cast<size_t>(rank)]; }
  std::optional<Loss> ConnectAll(const std::vector<MemberCard>& cards, MonotonicTime deadline);
  void Begin(const MessageHeader& header, const Transfer& transfer, Flight* flight);
  // Waits a turn for the next thing that this transfer needs.
  GlooWaiter::Outcome Advance(const MessageHeader& header, const Transfer& transfer, Flight* flight,
                              std::optional<Loss>* loss);
  std::optional<Loss> TakeFrame(const MessageHeader& header, const Transfer& transfer, Flight* flight);
  // A loss, if a transfer can't be done any more; otherwise `silent` are those not done yet.
  std::optional<Loss> LookAtAll(const MessageHeader& header, std::span<const Transfer> transfers,
                                bool only_broken, std::vector<int>* silent);
  Loss LossOf(int rank);
  // At the deadline: who of `silent` is lost.
  Loss Listen(const std::vector<int>& silent, absl::Duration waited);
  std::optional<Loss> ReadFarewell(int rank);  // waits a turn
  void SayFarewell(const Loss& why);           // once
  // Closes every connection: no buffer is touched from here on.
  void Close();

  const CommunicatorOptions options_;
  std::shared_ptr<gloo::transport::Device> device_;
  std::shared_ptr<gloo::transport::Context> context_;
  std::vector<std::string> addresses_;        // [size] as the others need them, "" for oneself
  std::vector<std::unique_ptr<Peer>> peers_;  // [size], none for oneself
  std::vector<Flight> flights_;               // beside transfers
  std::unique_ptr<GlooWaiter> waiter_;        // from Connect to Close
  bool said_farewell_ = false;
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_GLOO_MESH_H_
