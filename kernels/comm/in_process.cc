#include "kernels/comm/in_process.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <vector>

#include "common/quoted.h"
#include "kernels/comm/member_card.h"
#include "kernels/comm/mesh_communicator.h"

namespace coterie {
// Where the members of one group and epoch meet.
class InProcessRoom {
 public:
  // A message that its sender offers, in the sender's memory: it waits until the message was taken.
  struct Offer {
    MessageHeader header;
    std::span<const std::byte> bytes;
    enum { kWaiting, kCopying, kTaken } state = kWaiting;
  };

  explicit InProcessRoom(size_t n_members)
      : left_(n_members), offers_(n_members, std::vector<std::deque<Offer*>>(n_members)) {}

  Mutex mutex_;
  CondVar changed_;
  std::vector<std::optional<Loss>> left_ ABSL_GUARDED_BY(mutex_);                // farewells, by rank
  std::vector<std::vector<std::deque<Offer*>>> offers_ ABSL_GUARDED_BY(mutex_);  // [from][to]
};

namespace {

using Offer = InProcessRoom::Offer;

class InProcessTransport : public Transport {
 public:
  InProcessTransport(std::shared_ptr<InProcessNetwork> network, std::shared_ptr<InProcessRoom> room,
                     const CommunicatorOptions& options)
      : network_(std::move(network)),
        room_(std::move(room)),
        rank_(options.rank),
        members_(options.members),
        abort_(options.abort) {}

  std::optional<Loss> Exchange(const MessageHeader& header, std::span<const Transfer> transfers,
                               const TransferWait& wait) override;

  void Leave(const Loss& why) override {
    MutexLock lock(&room_->mutex_);
    SayFarewell(why);
  }

 private:
  std::deque<Offer*>& Offers(int from, int to) ABSL_EXCLUSIVE_LOCKS_REQUIRED(room_->mutex_) {
    return room_->offers_[static_cast<size_t>(from)][static_cast<size_t>(to)];
  }
  void SayFarewell(const Loss& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(room_->mutex_) {
    std::optional<Loss>& mine = room_->left_[static_cast<size_t>(rank_)];
    if (!mine) mine = why;
    room_->changed_.SignalAll();
  }
  Loss Listen(const std::vector<int>& silent, absl::Duration waited)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(room_->mutex_);
  std::optional<Loss> Take(const MessageHeader& header, const Transfer& transfer, bool* taken)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(room_->mutex_);
  // Until no one copies out of the offers any more; those that nobody has begun to take are withdrawn.
  void Withdraw(std::span<const Transfer> transfers) ABSL_EXCLUSIVE_LOCKS_REQUIRED(room_->mutex_);

  const std::shared_ptr<InProcessNetwork> network_;  // outlives the room's place in it
  const std::shared_ptr<InProcessRoom> room_;
  const int rank_;
  const std::vector<std::string> members_;
  const std::shared_ptr<AbortFlag> abort_;
  std::vector<Offer> mine_;     // beside transfers
  std::vector<bool> received_;  // likewise
};

std::optional<Loss> InProcessTransport::Take(const MessageHeader& header, const Transfer& transfer,
                                             bool* taken) {
  std::deque<Offer*>& offers = Offers(transfer.peer, rank_);
  if (offers.empty()) return std::nullopt;
  Offer* offer = offers.front();
  MessageHeader expected = header;
  expected.from = static_cast<uint16_t>(transfer.peer);
  if (std::optional<Loss> loss = CheckHeader(expected, offer->header, transfer.peer, members_)) return loss;
  offers.pop_front();
  offer->state = Offer::kCopying;
  room_->mutex_.Unlock();
  if (!offer->bytes.empty()) std::memcpy(transfer.in.data(), offer->bytes.data(), offer->bytes.size());
  room_->mutex_.Lock();
  offer->state = Offer::kTaken;
  room_->changed_.SignalAll();
  *taken = true;
  return std::nullopt;
}

Loss InProcessTransport::Listen(const std::vector<int>& silent, absl::Duration waited) {
  SayFarewell(LossFromSilence(silent, waited, members_));
  const MonotonicTime until = MonotonicNow() + kListenTime;
  for (;;) {
    std::vector<int> without_sign;
    for (int peer : silent) {
      const std::optional<Loss>& farewell = room_->left_[static_cast<size_t>(peer)];
      if (!farewell) without_sign.push_back(peer);
      if (farewell && farewell->rank != rank_) return LossFromFarewell(*farewell, peer, rank_, members_);
    }
    if (without_sign.empty()) return LossFromSilence(silent, waited, members_);
    if (MonotonicNow() >= until) return LossFromSilence(without_sign, waited, members_);
    room_->changed_.WaitUntil(&room_->mutex_, until);
  }
}

void InProcessTransport::Withdraw(std::span<const Transfer> transfers) {
  for (size_t i = 0; i < transfers.size(); ++i) {
    if (!transfers[i].sends) continue;
    std::deque<Offer*>& offers = Offers(rank_, transfers[i].peer);
    offers.erase(std::remove(offers.begin(), offers.end(), &mine_[i]), offers.end());
    while (mine_[i].state == Offer::kCopying) room_->changed_.Wait(&room_->mutex_);
  }
}

std::optional<Loss> InProcessTransport::Exchange(const MessageHeader& header,
                                                 std::span<const Transfer> transfers,
                                                 const TransferWait& wait) {
  MutexLock lock(&room_->mutex_);
  mine_.assign(transfers.size(), Offer{});
  received_.assign(transfers.size(), false);
  for (size_t i = 0; i < transfers.size(); ++i) {
    if (!transfers[i].sends) continue;
    mine_[i].header = header;
    mine_[i].bytes = transfers[i].out;
    Offers(rank_, transfers[i].peer).push_back(&mine_[i]);
  }
  room_->changed_.SignalAll();
  std::vector<int> silent;
  for (;;) {
    std::optional<Loss> loss;
    bool progress = false;
    silent.clear();
    for (size_t i = 0; i < transfers.size() && !loss; ++i) {
      const Transfer& transfer = transfers[i];
      bool taken = false;
      if (transfer.receives && !received_[i]) {
        loss = Take(header, transfer, &taken);
        received_[i] = taken;
        progress |= taken;
      }
      if ((transfer.receives && !received_[i]) || (transfer.sends && mine_[i].state != Offer::kTaken)) {
        silent.push_back(transfer.peer);
      }
    }
    if (silent.empty() && !loss) return std::nullopt;
    if (!loss && progress) continue;  // the lock was let go: look again before judging
    for (int peer : silent) {
      const std::optional<Loss>& farewell = room_->left_[static_cast<size_t>(peer)];
      if (farewell && !loss) loss = LossFromFarewell(*farewell, peer, rank_, members_);
    }
    if (!loss && abort_->raised()) loss = LossFromAbort(rank_, members_);
    const MonotonicTime now = MonotonicNow();
    if (!loss && now >= wait.deadline) loss = Listen(silent, wait.timeout);
    if (loss) {
      Withdraw(transfers);
      return loss;
    }
    room_->changed_.WaitUntil(&room_->mutex_, now + kAbortSlice);
  }
}

}  // namespace

std::shared_ptr<InProcessRoom> InProcessNetwork::Join(const CommunicatorOptions& options) {
  MutexLock lock(&mutex_);
  std::erase_if(rooms_, [](const auto& room) { return room.second.expired(); });
  std::weak_ptr<InProcessRoom>& place = rooms_[{options.group, options.epoch}];
  std::shared_ptr<InProcessRoom> room = place.lock();
  if (room == nullptr) {
    room = std::make_shared<InProcessRoom>(options.members.size());
    place = room;
  }
  return room;
}

StatusOr<std::unique_ptr<Communicator>> CreateInProcessCommunicator(std::shared_ptr<InProcessNetwork> network,
                                                                    std::shared_ptr<Rendezvous> rendezvous,
                                                                    CommunicatorOptions options) {
  RETURN_IF_ERROR(PrepareOptions(&options));
  const MonotonicTime deadline = MonotonicNow() + options.form_timeout;
  const std::string forming = FormingGroup(options);
  // Joined first: whoever has seen this member's card finds its room.
  std::shared_ptr<InProcessRoom> room = network->Join(options);
  ASSIGN_OR_RETURN(const std::vector<MemberCard> cards,
                   MeetMembers(options, "in-process", "", rendezvous.get(), deadline));
  auto transport = std::make_unique<InProcessTransport>(std::move(network), std::move(room), options);
  const CommCapabilities capabilities{
      .backend = "in-process", .host_memory = true, .ascending_order = true, .checks_calls = true};
  auto communicator =
      std::make_unique<MeshCommunicator>(std::move(options), capabilities, std::move(transport));
  if (const std::optional<Loss> loss = communicator->SayHello(deadline)) {
    return Annotate(loss->ToStatus(), forming);
  }
  return std::unique_ptr<Communicator>(std::move(communicator));
}

}  // namespace coterie
