#ifdef COTERIE_WITH_GLOO
#include "kernels/comm/gloo_mesh.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "kernels/comm/sigpipe_block.h"

namespace coterie {
namespace {

constexpr uint64_t kFrameSlot = 1, kRestSlot = 2;
constexpr absl::Duration kFarewellTime = absl::Milliseconds(50);

using Outcome = GlooWaiter::Outcome;

}  // namespace

GlooMesh::~GlooMesh() { Close(); }

std::unique_ptr<gloo::transport::UnboundBuffer> GlooMesh::MakeBuffer(void* data, size_t n_bytes) const {
  return context_->createUnboundBuffer(data, n_bytes);
}

void GlooMesh::Begin(const MessageHeader& header, const Transfer& transfer, Flight* flight) {
  Peer& other = peer(transfer.peer);
  *flight = Flight{.stage = transfer.receives ? Flight::kFrame : Flight::kSending};
  if (other.gone) return;
  try {
    if (transfer.receives) other.receiver->recv(transfer.peer, kFrameSlot);
    if (!transfer.sends) return;
    const size_t n_inline = std::min(transfer.out.size(), kInlineBytes);
    std::memcpy(other.frame_out.data(), &header, sizeof(header));
    if (n_inline > 0) std::memcpy(other.frame_out.data() + sizeof(header), transfer.out.data(), n_inline);
    other.sender->send(transfer.peer, kFrameSlot, 0, sizeof(header) + n_inline);
    if (n_inline == transfer.out.size()) return;
    // Gloo only reads it, but does not say const.
    flight->rest_out =
        MakeBuffer(const_cast<std::byte*>(transfer.out.data()) + n_inline, transfer.out.size() - n_inline);
    flight->rest_out->send(transfer.peer, kRestSlot);
  } catch (const std::exception&) {
    other.gone = true;  // LossOf says why
  }
}

std::optional<Loss> GlooMesh::TakeFrame(const MessageHeader& header, const Transfer& transfer,
                                        Flight* flight) {
  Peer& other = peer(transfer.peer);
  MessageHeader theirs, expected = header;
  std::memcpy(&theirs, other.frame_in.data(), sizeof(theirs));
  expected.from = static_cast<uint16_t>(transfer.peer);
  if (std::optional<Loss> loss = CheckHeader(expected, theirs, transfer.peer, options_.members)) return loss;
  const size_t n_inline = std::min(transfer.in.size(), kInlineBytes);
  if (n_inline > 0) std::memcpy(transfer.in.data(), other.frame_in.data() + sizeof(theirs), n_inline);
  flight->stage = Flight::kSending;
  if (n_inline < transfer.in.size()) {
    flight->stage = Flight::kRest;
    flight->rest_in = MakeBuffer(transfer.in.data() + n_inline, transfer.in.size() - n_inline);
    try {
      flight->rest_in->recv(transfer.peer, kRestSlot);
    } catch (const std::exception&) {
      other.gone = true;
    }
  }
  if (options_.on_step) options_.on_step("frame");
  return std::nullopt;
}

Outcome GlooMesh::Advance(const MessageHeader& header, const Transfer& transfer, Flight* flight,
                          std::optional<Loss>* loss) {
  Peer& other = peer(transfer.peer);
  if (other.gone) return Outcome::kBroken;
  Outcome outcome = Outcome::kDone;
  switch (flight->stage) {
    case Flight::kFrame:
      outcome = waiter_->Received(other.receiver.get());
      if (outcome == Outcome::kDone) *loss = TakeFrame(header, transfer, flight);
      break;
    case Flight::kRest:
      outcome = waiter_->Received(flight->rest_in.get());
      if (outcome == Outcome::kDone) flight->stage = Flight::kSending;
      break;
    case Flight::kSending:
      if (transfer.sends && !flight->frame_sent) {
        outcome = waiter_->Sent(other.sender.get());
        flight->frame_sent = outcome == Outcome::kDone;
      } else if (flight->rest_out != nullptr) {
        outcome = waiter_->Sent(flight->rest_out.get());
        if (outcome == Outcome::kDone) flight->rest_out.reset();
      } else {
        flight->stage = Flight::kDone;
      }
      break;
    case Flight::kDone:
      break;
  }
  return outcome;
}

std::optional<Loss> GlooMesh::LookAtAll(const MessageHeader& header, std::span<const Transfer> transfers,
                                        bool only_broken, std::vector<int>* silent) {
  silent->clear();
  for (size_t i = 0; i < transfers.size(); ++i) {
    Flight& flight = flights_[i];
    const int rank = transfers[i].peer;
    if (flight.stage == Flight::kDone) continue;
    // What came before the end of a connection counts: its member may have finished, and left.
    const bool broken = peer(rank).gone || GlooWaiter::Broken(peer(rank).watch.get());
    std::optional<Loss> loss;
    if (broken || !only_broken) {
      while (flight.stage != Flight::kDone && !loss &&
             Advance(header, transfers[i], &flight, &loss) == Outcome::kDone) {
      }
    }
    if (loss) return loss;
    if (flight.stage == Flight::kDone) continue;
    if (broken) return LossOf(rank);
    silent->push_back(rank);
  }
  return std::nullopt;
}

std::optional<Loss> GlooMesh::Exchange(const MessageHeader& header, std::span<const Transfer> transfers,
                                       const TransferWait& wait) {
  const SigpipeBlock block;
  flights_.resize(transfers.size());
  for (size_t i = 0; i < transfers.size(); ++i) Begin(header, transfers[i], &flights_[i]);
  if (options_.on_step) options_.on_step("posted");
  std::vector<int> silent;
  // All frames first, so that the rests of all long messages are under way at once.
  for (int stage = Flight::kFrame; stage != Flight::kDone; ++stage) {
    for (size_t i = 0; i < transfers.size(); ++i) {
      while (flights_[i].stage <= stage) {
        std::optional<Loss> loss;
        const Outcome outcome = Advance(header, transfers[i], &flights_[i], &loss);
        if (loss) return loss;
        if (outcome == Outcome::kDone) continue;
        if (outcome == Outcome::kBroken) return LossOf(transfers[i].peer);
        if (options_.abort->raised()) return LossFromAbort(options_.rank, options_.members);
        const bool late = MonotonicNow() >= wait.deadline;
        loss = LookAtAll(header, transfers, /*only_broken=*/!late, &silent);
        if (loss) return loss;
        if (late && !silent.empty()) return Listen(silent, wait.timeout);
      }
    }
  }
  return std::nullopt;
}

std::optional<Loss> GlooMesh::ReadFarewell(int rank) {
  Peer& other = peer(rank);
  if (waiter_->Received(other.farewell_receiver.get()) != Outcome::kDone) return std::nullopt;
  const char* text = reinterpret_cast<const char*>(other.farewell_in.data());
  return Loss::Parse({text, strnlen(text, other.farewell_in.size())});
}

Loss GlooMesh::LossOf(int rank) {
  if (const std::optional<Loss> farewell = ReadFarewell(rank)) {
    return LossFromFarewell(*farewell, rank, options_.rank, options_.members);
  }
  return {absl::StatusCode::kUnavailable, rank,
          absl::StrCat("lost the connection to ", MemberName(rank, options_.members))};
}

Loss GlooMesh::Listen(const std::vector<int>& silent, absl::Duration waited) {
  SayFarewell(LossFromSilence(silent, waited, options_.members));
  const MonotonicTime until = MonotonicNow() + kListenTime;
  std::vector<int> without_sign = silent;
  while (!without_sign.empty() && MonotonicNow() < until) {
    for (size_t i = 0; i < without_sign.size();) {
      const int rank = without_sign[i];
      const std::optional<Loss> farewell = ReadFarewell(rank);
      if (farewell && farewell->rank != options_.rank) {
        return LossFromFarewell(*farewell, rank, options_.rank, options_.members);
      }
      if (farewell) {
        without_sign.erase(without_sign.begin() + static_cast<ptrdiff_t>(i));
      } else {
        ++i;
      }
    }
  }
  return LossFromSilence(without_sign.empty() ? silent : without_sign, waited, options_.members);
}

void GlooMesh::SayFarewell(const Loss& why) {
  if (std::exchange(said_farewell_, true)) return;
  const std::string text = why.Encode();
  COTERIE_CHECK_LE(text.size(), Loss::kMaxBytes);
  std::vector<Buffer*> under_way;
  for (int rank = 0; rank < options_.size(); ++rank) {
    if (rank == options_.rank || peer(rank).gone) continue;
    Peer& other = peer(rank);
    other.farewell_out.fill(std::byte{0});
    std::memcpy(other.farewell_out.data(), text.data(), text.size());
    try {
      other.farewell_sender->send(rank, kGlooFarewellSlot);
      under_way.push_back(other.farewell_sender.get());
    } catch (const std::exception&) {
      // It is gone as well, and needs no farewell.
    }
  }
  const MonotonicTime until = MonotonicNow() + kFarewellTime;
  for (Buffer* farewell : under_way) {
    while (waiter_->Sent(farewell) == Outcome::kNotYet && MonotonicNow() < until) {
    }
  }
}

void GlooMesh::Leave(const Loss& why) {
  const SigpipeBlock block;
  if (waiter_ != nullptr) SayFarewell(why);
  Close();
}

void GlooMesh::Close() {
  if (context_ != nullptr) {
    for (int rank = 0; rank < options_.size(); ++rank) {
      if (rank != options_.rank) context_->getPair(rank).reset();
    }
  }
  waiter_.reset();
  flights_.clear();
  peers_.clear();
  context_.reset();
  device_.reset();
}

}  // namespace coterie
#endif
