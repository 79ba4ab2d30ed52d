#ifdef COTERIE_WITH_GLOO
#include <arpa/inet.h>
#include <gloo/transport/pair.h>
#include <gloo/transport/tcp/attr.h>
#include <gloo/transport/tcp/device.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <thread>

#include "common/mutex.h"
#include "common/quoted.h"
#include "kernels/comm/gloo.h"
#include "kernels/comm/gloo_mesh.h"
#include "kernels/comm/mesh_communicator.h"
#include "kernels/comm/notes.h"
#include "kernels/comm/sigpipe_block.h"

namespace coterie {
namespace {

// How connecting to each member goes.
struct Connecting {
  explicit Connecting(size_t n_members) : errors(n_members), done(n_members, false) {}
  Mutex mutex;
  CondVar changed;
  std::vector<std::string> errors ABSL_GUARDED_BY(mutex);
  std::vector<bool> done ABSL_GUARDED_BY(mutex);
};

// What Gloo says of an error, without the place in its sources that stands before it in brackets.
std::string GlooWords(const std::exception& e) {
  const std::string_view text = e.what();
  const size_t end = text.starts_with("[") ? text.find("] ") : std::string_view::npos;
  return Shown(end == std::string_view::npos ? text : text.substr(end + 2));
}

// An IPv4 or IPv6 address with port 0; its size, or 0 where the text is none.
socklen_t ParseAddress(const std::string& text, sockaddr_storage* address) {
  *address = {};
  auto* four = reinterpret_cast<sockaddr_in*>(address);
  auto* six = reinterpret_cast<sockaddr_in6*>(address);
  if (inet_pton(AF_INET, text.c_str(), &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    return sizeof(*four);
  }
  if (inet_pton(AF_INET6, text.c_str(), &six->sin6_addr) != 1) return 0;
  six->sin6_family = AF_INET6;
  return sizeof(*six);
}

// That this machine has the address, which Gloo finds out as well, and then leaks what it looked up.
Status CheckAddress(const std::string& text) {
  sockaddr_storage address;
  const socklen_t n_bytes = ParseAddress(text, &address);
  if (n_bytes == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("address is ", Quoted(text), "; give an IPv4 or IPv6 address of this machine"));
  }
  const int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool listens = fd >= 0 && bind(fd, reinterpret_cast<sockaddr*>(&address), n_bytes) == 0;
  const int error = errno;
  if (fd >= 0) close(fd);
  if (listens) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("this member cannot listen on ", text, ": ",
                                             std::generic_category().message(error),
                                             "; give an address of this machine"));
}

}  // namespace

StatusOr<std::unique_ptr<GlooMesh>> GlooMesh::Listen(const std::string& address,
                                                     const CommunicatorOptions& options) {
  if (!GlooAsksUsForPeers()) {
    return absl::InternalError(
        "libgloo does not find this program's getpeername; link it with its symbols exported");
  }
  auto mesh = std::unique_ptr<GlooMesh>(new GlooMesh(options));
  const auto size = static_cast<size_t>(options.size());
  const SigpipeBlock block;  // for the thread that the device starts
  try {
    mesh->device_ = gloo::transport::tcp::CreateDevice(gloo::transport::tcp::attr(address.c_str()));
    mesh->context_ = mesh->device_->createContext(options.rank, options.size());
    // Its connect waits five times as long; Connect ends it in time.
    mesh->context_->setTimeout(
        std::chrono::milliseconds(absl::ToInt64Milliseconds(options.form_timeout) + 1));
    mesh->addresses_.resize(size);
    mesh->peers_.resize(size);
    for (int rank = 0; rank < options.size(); ++rank) {
      if (rank == options.rank) continue;
      const std::vector<char> bytes = mesh->context_->createPair(rank)->address().bytes();
      mesh->addresses_[static_cast<size_t>(rank)].assign(bytes.begin(), bytes.end());
      mesh->peers_[static_cast<size_t>(rank)] = std::make_unique<Peer>();
    }
  } catch (const std::exception& e) {
    return absl::UnavailableError(absl::StrCat("Gloo cannot listen on ", address, ": ", GlooWords(e)));
  }
  return mesh;
}

std::string GlooMesh::Details() const {
  std::string details;  // [size] addresses of one length
  for (const std::string& address : addresses_) {
    absl::StrAppend(&details, address.empty() ? std::string(kGlooAddressBytes, '\0') : address);
  }
  return details;
}

std::optional<Loss> GlooMesh::ConnectAll(const std::vector<MemberCard>& cards, MonotonicTime deadline) {
  const auto size = static_cast<size_t>(options_.size());
  const auto self = static_cast<size_t>(options_.rank);
  Connecting state(size);
  // One thread each, since Gloo's connect waits, and the member that is waited for first need not be the one
  // that is missing. They end here: closing a connection ends its wait.
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < size; ++rank) {
    if (rank == self) continue;
    const std::string& details = cards[rank].details;
    const std::string bytes = details.size() == size * kGlooAddressBytes
                                  ? details.substr(self * kGlooAddressBytes, kGlooAddressBytes)
                                  : "";
    const auto end = [rank, &state](const std::string& error) {
      MutexLock lock(&state.mutex);
      state.errors[rank] = error;
      state.done[rank] = true;
      state.changed.SignalAll();
    };
    try {
      threads.emplace_back([this, rank, bytes, end] {
        try {
          context_->getPair(static_cast<int>(rank))->connect({bytes.begin(), bytes.end()});
          end("");
        } catch (const std::exception& e) {
          end(GlooWords(e));
        }
      });
    } catch (const std::system_error& e) {  // no thread to be had
      end(e.what());
    }
  }
  std::optional<Loss> loss;
  {
    MutexLock lock(&state.mutex);
    for (;;) {
      std::vector<int> silent;
      for (size_t rank = 0; rank < size; ++rank) {
        if (rank == self) continue;
        if (!state.done[rank]) silent.push_back(static_cast<int>(rank));
        if (state.errors[rank].empty() || loss) continue;
        const std::string who = MemberName(static_cast<int>(rank), options_.members);
        loss = Loss{absl::StatusCode::kUnavailable, static_cast<int>(rank),
                    absl::StrCat("cannot connect to ", who, ": ", state.errors[rank])};
      }
      if (!loss && silent.empty()) break;
      if (options_.abort->raised()) loss = LossFromAbort(options_.rank, options_.members);
      if (!loss && MonotonicNow() >= deadline) {
        loss = LossFromSilence(silent, options_.form_timeout, options_.members);
      }
      if (loss) break;
      state.changed.WaitUntil(&state.mutex, std::min(deadline, MonotonicNow() + kAbortSlice));
    }
  }
  if (loss) {
    for (size_t rank = 0; rank < size; ++rank) {
      if (rank != self) context_->getPair(static_cast<int>(rank))->close();
    }
  }
  for (std::thread& thread : threads) thread.join();
  return loss;
}

std::optional<Loss> GlooMesh::Connect(const std::vector<MemberCard>& cards, MonotonicTime deadline) {
  const SigpipeBlock block;  // for the threads as well
  if (std::optional<Loss> loss = ConnectAll(cards, deadline)) return loss;
  try {
    waiter_ = std::make_unique<GlooWaiter>();
  } catch (const std::system_error& e) {
    return Loss{absl::StatusCode::kResourceExhausted, options_.rank,
                absl::StrCat(MemberName(options_.rank, options_.members), " gets no thread: ", e.what())};
  }
  for (int rank = 0; rank < options_.size(); ++rank) {
    if (rank == options_.rank) continue;
    Peer& other = peer(rank);
    other.sender = MakeBuffer(other.frame_out.data(), other.frame_out.size());
    other.receiver = MakeBuffer(other.frame_in.data(), other.frame_in.size());
    other.farewell_sender = MakeBuffer(other.farewell_out.data(), other.farewell_out.size());
    other.farewell_receiver = MakeBuffer(other.farewell_in.data(), other.farewell_in.size());
    other.watch = MakeBuffer(&other.never, sizeof(other.never));
    try {
      other.farewell_receiver->recv(rank, kGlooFarewellSlot);
      other.watch->recv(rank, kGlooWatchSlot);
    } catch (const std::exception&) {
      other.gone = true;
    }
  }
  return std::nullopt;
}

StatusOr<std::unique_ptr<Communicator>> CreateGlooCommunicator(const GlooOptions& gloo,
                                                               std::shared_ptr<Rendezvous> rendezvous,
                                                               CommunicatorOptions options) {
  RETURN_IF_ERROR(PrepareOptions(&options));
  RETURN_IF_ERROR(CheckAddress(gloo.address));
  const MonotonicTime deadline = MonotonicNow() + options.form_timeout;
  ASSIGN_OR_RETURN(std::unique_ptr<GlooMesh> mesh, GlooMesh::Listen(gloo.address, options));
  const auto step = [&](std::string_view name) {
    if (options.on_step) options.on_step(name);
  };
  step("listen");
  ASSIGN_OR_RETURN(const std::vector<MemberCard> cards,
                   MeetMembers(options, "gloo", mesh->Details(), rendezvous.get(), deadline));
  step("met");
  std::optional<Loss> loss = mesh->Connect(cards, deadline);
  if (!loss) step("connected");
  const CommCapabilities capabilities{
      .backend = "gloo", .host_memory = true, .ascending_order = true, .checks_calls = true};
  auto communicator = std::make_unique<MeshCommunicator>(options, capabilities, std::move(mesh));
  if (!loss) loss = communicator->SayHello(deadline);
  if (loss) {
    // Not every connection is there that would carry a farewell.
    return Annotate(BlameByNotes(options, rendezvous.get(), *loss).ToStatus(), FormingGroup(options));
  }
  return std::unique_ptr<Communicator>(std::move(communicator));
}

}  // namespace coterie
#endif
