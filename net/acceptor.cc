#include "net/acceptor.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/allocator.h"
#include "common/log/named.h"
#include "net/descriptors.h"
#include "spdlog/spdlog.h"

namespace coterie::net {
namespace {

// First words longer than this are nothing that a protocol here begins with.
constexpr size_t kOpeningBytes = 8192;
// Accepted before other events get their turn.
constexpr int kAcceptsAtOnce = 64;
constexpr absl::Duration kTick = absl::Seconds(1);
constexpr absl::Duration kWatchInterval = absl::Milliseconds(50);  // at 20,000 resets a second, a thousand
constexpr absl::Duration kReturnMemoryAfter = absl::Seconds(2);  // what was begun for them has ended by then
constexpr absl::Duration kCountInterval = absl::Seconds(5);  // counting 10,000 descriptors takes milliseconds
constexpr absl::Duration kComplaintInterval = absl::Seconds(10);
constexpr absl::Duration kPause = absl::Milliseconds(100);
constexpr absl::Duration kScanInterval = absl::Milliseconds(200);
constexpr int kShare = 10;  // looking for closed and for idle connections may each take a tenth of the thread

// Tags of epoll events that are not connections, whose ids count from 1.
constexpr uint64_t kStopTag = ~uint64_t{0};
constexpr uint64_t kListenerTag = uint64_t{1} << 63;

ino_t InodeOf(int fd) {
  struct stat info {};
  return fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode) ? info.st_ino : 0;
}

// The kernel numbers sockets: while the descriptor has the connection's number it is that socket.
bool StillOpen(const ConnectionTable::Connection& connection) {
  return InodeOf(connection.fd) == connection.inode;
}

// Whether accept() failed because of the connection that it would have returned, so that the next one may do.
bool ConcernsOneConnection(int error) {
  switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case EPERM:
      return true;
    default:
      return false;
  }
}

int64_t SoftLimit() {
  rlimit limit{};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0
             ? static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, INT32_MAX))
             : 0;
}

FileDescriptor OpenSpare() { return FileDescriptor(open("/dev/null", O_RDONLY | O_CLOEXEC)); }

}  // namespace

StatusOr<std::unique_ptr<Acceptor>> Acceptor::Start(ListenSockets sockets, AcceptorOptions options,
                                                    ConnectionProtocol* protocol, MetricsRegistry* registry) {
  if (options.max_connections < 1 || options.max_per_client < 1 ||
      options.silent_timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the ", options.listener, " listener's limits must be at least 1 and its timeout positive: ",
        options.max_connections, " connections, ", options.max_per_client, " of one client"));
  }
  std::unique_ptr<Acceptor> acceptor(
      new Acceptor(std::move(sockets), std::move(options), protocol, registry));
  RETURN_IF_ERROR(acceptor->Open());
  acceptor->thread_ = std::thread([raw = acceptor.get()] { raw->Run(); });
  return acceptor;
}

Acceptor::Acceptor(ListenSockets sockets, AcceptorOptions options, ConnectionProtocol* protocol,
                   MetricsRegistry* registry)
    : options_(std::move(options)),
      protocol_(protocol),
      metrics_(registry, options_.listener, options_.max_connections),
      port_(sockets.port),
      sockets_(std::move(sockets)) {}

Acceptor::~Acceptor() { Stop(); }

Status Acceptor::Open() {
  const auto failed = [this] {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot watch the ", options_.listener, " listener"));
  };
  epoll_ = FileDescriptor(epoll_create1(EPOLL_CLOEXEC));
  stop_ = FileDescriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  spare_ = OpenSpare();
  if (epoll_.get() < 0 || stop_.get() < 0 || spare_.get() < 0) return failed();
  epoll_event event{EPOLLIN, {.u64 = kStopTag}};
  bool watched = epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, stop_.get(), &event) == 0;
  for (size_t i = 0; i < sockets_.sockets.size(); ++i) {
    event = {EPOLLIN, {.u64 = kListenerTag | i}};
    watched = watched && epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, sockets_.sockets[i].get(), &event) == 0;
  }
  return watched ? absl::OkStatus() : failed();
}

void Acceptor::Stop() {
  if (!thread_.joinable()) return;
  eventfd_write(stop_.get(), 1);
  thread_.join();
  for (auto id = table_.OldestSilent(); id.has_value(); id = table_.OldestSilent()) CloseSilent(*id);
  sockets_.sockets.clear();
  metrics_.SetOpen(0, 0);
}

void Acceptor::Run() {
  std::array<epoll_event, 64> events;
  for (;;) {
    const MonotonicTime now = MonotonicNow();
    if (now >= next_tick_) Tick();
    if (paused_until_.has_value() && now >= *paused_until_) Resume();
    if (now >= next_watch_) CutOffAbusers();
    const MonotonicTime due =
        std::min({next_tick_, next_watch_, paused_until_.value_or(MonotonicTime::InfiniteFuture())});
    const int64_t wait_ms =
        absl::ToInt64Milliseconds(absl::Ceil(due - MonotonicNow(), absl::Milliseconds(1)));
    const int n = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                             static_cast<int>(std::clamp<int64_t>(wait_ms, 0, 1000)));
    for (int i = 0; i < n; ++i) {
      const uint64_t tag = events[static_cast<size_t>(i)].data.u64;
      if (tag == kStopTag) return;
      if ((tag & kListenerTag) != 0) {
        AcceptSome(sockets_.sockets[tag & ~kListenerTag].get());
      } else {
        Look(tag, events[static_cast<size_t>(i)].events);
      }
    }
  }
}

void Acceptor::AcceptSome(int listener) {
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    sockaddr_storage address{};
    socklen_t length = sizeof(address);
    FileDescriptor socket(
        accept4(listener, reinterpret_cast<sockaddr*>(&address), &length, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (socket.get() >= 0) {
      Welcome(std::move(socket), PeerAddress::FromSockaddr(address));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return;
    } else if (errno == EMFILE || errno == ENFILE) {
      if (!OutOfDescriptors(listener)) return Pause();
    } else if (!ConcernsOneConnection(errno)) {
      spdlog::error("the {} listener cannot accept: {}", Named("listener", options_.listener),
                    Named("why", absl::ErrnoToStatus(errno, "accept").ToString()));
      return Pause();  // the memory that it lacks may come back
    }
  }
}

// Frees a descriptor, or refuses the connection at the head of the queue. False: nothing was freed, or no
// spare descriptor is left for the next time; the caller pauses.
bool Acceptor::OutOfDescriptors(int listener) {
  if (const auto oldest = table_.OldestSilent(); oldest.has_value()) {
    CloseSilent(*oldest);
    metrics_.Count(Refused::kSilent);
    return true;
  }
  if (spare_.get() < 0) spare_ = OpenSpare();
  if (spare_.get() < 0) return false;
  spare_ = FileDescriptor();
  FileDescriptor socket(accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  const bool refused = socket.get() >= 0;
  if (refused) {
    Refuse(std::move(socket), Refused::kDescriptors,
           absl::StrCat("the process has used up its ", SoftLimit(), " descriptors; try again later"));
  }
  spare_ = OpenSpare();
  return refused && spare_.get() >= 0;
}

void Acceptor::Welcome(FileDescriptor socket, const PeerAddress& peer) {
  metrics_.CountAccepted();
  Refused reason = Refused::kFull;
  std::string why;
  if (!MakePlace(peer, &reason, &why)) return Refuse(std::move(socket), reason, why);
  const int yes = 1;
  setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  const int timeout_ms = static_cast<int>(absl::ToInt64Milliseconds(options_.peer_timeout));
  setsockopt(socket.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
  Connection connection;
  connection.fd = socket.get();
  connection.inode = InodeOf(socket.get());
  connection.peer = peer;
  connection.opened = MonotonicNow();
  const Id id = table_.Add(connection);
  // Edges only: half of the first words must not wake us again and again.
  epoll_event event{EPOLLIN | EPOLLRDHUP | EPOLLET, {.u64 = id}};
  const bool watched = epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket.get(), &event) == 0;
  socket.Release();
  if (!watched) CloseSilent(id);
}

bool Acceptor::MakePlace(const PeerAddress& peer, Refused* reason, std::string* why) {
  const auto client_full = [&] { return table_.HeldBy(peer) >= options_.max_per_client; };
  const auto all_full = [&] { return table_.size() >= options_.max_connections; };
  if (client_full() || all_full()) Sweep();
  while (client_full()) {
    if (const auto silent = table_.OldestSilentOf(peer); silent.has_value()) {
      CloseSilent(*silent);
      metrics_.Count(Refused::kSilent);
    } else if (!CloseIdle(&peer)) {
      *reason = Refused::kClient;
      *why = absl::StrCat(
          "too many connections: ", peer.ToString(), " holds the ", options_.max_per_client,
          " that one address may (--max-connections-per-address); use fewer, or wait for one to end");
      return false;
    }
  }
  while (all_full()) {
    if (const auto silent = table_.OldestSilent(); silent.has_value()) {
      CloseSilent(*silent);
      metrics_.Count(Refused::kSilent);
    } else if (!CloseIdle(nullptr)) {
      *reason = Refused::kFull;
      *why = absl::StrCat("too many connections: all ", options_.max_connections,
                          " places are in use (--max-connections); try again later");
      return false;
    }
  }
  return true;
}

void Acceptor::Look(Id id, uint32_t events) {
  const Connection* connection = table_.Find(id);
  if (connection == nullptr || connection->handed) return;  // gone since the kernel told of it
  std::array<char, kOpeningBytes> sent;
  const ssize_t n = recv(connection->fd, sent.data(), sent.size(), MSG_PEEK | MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR) && (events & (EPOLLHUP | EPOLLERR)) == 0) return;
  if (n <= 0) return CloseSilent(id);
  auto opening = protocol_->Judge({sent.data(), static_cast<size_t>(n)});
  if (opening == ConnectionProtocol::Opening::kIncomplete) {
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) return CloseSilent(id);
    if (static_cast<size_t>(n) < sent.size()) return;
    opening = ConnectionProtocol::Opening::kWrong;
  }
  const int fd = connection->fd;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  if (opening == ConnectionProtocol::Opening::kWrong) {
    table_.Remove(id);
    return Refuse(FileDescriptor(fd), Refused::kWrong, "this port speaks another protocol");
  }
  table_.MarkHanded(id);
  protocol_->Take(fd);
  if (!StillOpen(*table_.Find(id))) table_.Remove(id);  // a page that was served at once
}

void Acceptor::CloseSilent(Id id) {
  const FileDescriptor closes(table_.Find(id)->fd);
  table_.Remove(id);
}

// Of those with nothing under way, the first that came, of the client that holds most (or of `only`'s).
bool Acceptor::CloseIdle(const PeerAddress* only) {
  const MonotonicTime now = MonotonicNow();
  const auto usable = [&](const Candidate& candidate) {
    const Connection* connection = table_.Find(candidate.id);
    return connection != nullptr && (only == nullptr || connection->peer.Client() == only->Client());
  };
  if (std::none_of(candidates_.begin(), candidates_.end(), usable) && now >= next_scan_) {
    candidates_.clear();
    absl::flat_hash_map<PeerAddress, int64_t> idle;
    for (const auto& connection : protocol_->FindIdle()) idle[connection.peer] = connection.token;
    for (const auto& [id, connection] : table_.connections()) {
      if (!connection.handed || now - connection.opened < options_.settle) continue;
      if (const auto found = idle.find(connection.peer); found != idle.end()) {
        candidates_.push_back({id, found->second});
      }
    }
    next_scan_ = MonotonicNow() + std::max(kScanInterval, kShare * (MonotonicNow() - now));
  }
  for (;;) {
    auto best = candidates_.end();
    int most = 0;
    for (auto it = candidates_.begin(); it != candidates_.end(); ++it) {
      if (!usable(*it)) continue;
      const int held = table_.HeldBy(table_.Find(it->id)->peer);
      if (held > most) {
        most = held;
        best = it;
      }
    }
    if (best == candidates_.end()) return false;
    const Candidate candidate = *best;
    candidates_.erase(best);
    const Connection connection = *table_.Find(candidate.id);
    if (!protocol_->StillIdle(candidate.token)) continue;
    // The number may have become another file's since: a duplicate cannot.
    const FileDescriptor duplicate(fcntl(connection.fd, F_DUPFD_CLOEXEC, 0));
    if (duplicate.get() < 0) return false;
    if (InodeOf(duplicate.get()) == connection.inode) shutdown(duplicate.get(), SHUT_RDWR);
    table_.Remove(candidate.id);
    metrics_.Count(Refused::kIdle);
    return true;
  }
}

void Acceptor::CutOffAbusers() {
  const MonotonicTime now = MonotonicNow();
  next_watch_ = now + kWatchInterval;
  for (const PeerAddress& peer : protocol_->FindAbusers()) {
    for (const auto& [id, connection] : table_.connections()) {
      if (!connection.handed || !(connection.peer == peer)) continue;
      const FileDescriptor duplicate(fcntl(connection.fd, F_DUPFD_CLOEXEC, 0));
      if (duplicate.get() < 0 || InodeOf(duplicate.get()) != connection.inode) break;
      // Dissolves the connection together with what it has sent and nobody has read, thousands of resets
      // perhaps, which a shutdown would leave to be read.
      const sockaddr nobody{.sa_family = AF_UNSPEC, .sa_data = {}};
      if (connect(duplicate.get(), &nobody, sizeof(nobody)) != 0) shutdown(duplicate.get(), SHUT_RDWR);
      table_.Remove(id);  // once: until its owner has closed it, it is found again
      metrics_.Count(Refused::kResets);
      return_memory_at_ = now + kReturnMemoryAfter;
      if (now >= next_complaint_) {
        spdlog::warn("a connection of {} on the {} listener is cut off: it opens calls and breaks them off",
                     Named("peer", peer.ToString()), Named("listener", options_.listener));
        next_complaint_ = now + kComplaintInterval;
      }
      break;
    }
  }
}

void Acceptor::Refuse(FileDescriptor socket, Refused reason, const std::string& why) {
  metrics_.Count(reason);
  if (const std::string words = protocol_->Refusal(why); !words.empty()) {
    (void)send(socket.get(), words.data(), words.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    shutdown(socket.get(), SHUT_WR);
    // What is left unread would make the kernel answer with a reset, which may overtake our words.
    std::array<char, 4096> unread;
    (void)recv(socket.get(), unread.data(), unread.size(), MSG_DONTWAIT);
  }
  ++n_refused_unsaid_;
  const MonotonicTime now = MonotonicNow();
  if (now < next_complaint_) return;
  spdlog::warn("{} connections refused on the {} listener: {}",
               Named("refused", std::exchange(n_refused_unsaid_, 0)), Named("listener", options_.listener),
               Named("why", why));
  next_complaint_ = now + kComplaintInterval;
}

// Leaves the listening sockets alone for a moment: they stay readable, and waiting for them would spin.
void Acceptor::Pause() {
  for (size_t i = 0; i < sockets_.sockets.size(); ++i) {
    epoll_event event{0, {.u64 = kListenerTag | i}};
    epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, sockets_.sockets[i].get(), &event);
  }
  paused_until_ = MonotonicNow() + kPause;
  Sweep();
}

void Acceptor::Resume() {
  for (size_t i = 0; i < sockets_.sockets.size(); ++i) {
    epoll_event event{EPOLLIN, {.u64 = kListenerTag | i}};
    epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, sockets_.sockets[i].get(), &event);
  }
  paused_until_.reset();
}

// Forgets handed connections that their owner has closed: gRPC tells nobody. A few microseconds for each ten.
void Acceptor::Sweep() {
  const MonotonicTime now = MonotonicNow();
  if (now < next_sweep_) return;
  std::vector<Id> closed;
  for (const auto& [id, connection] : table_.connections()) {
    if (connection.handed && !StillOpen(connection)) closed.push_back(id);
  }
  for (Id id : closed) table_.Remove(id);
  const MonotonicTime end = MonotonicNow();
  next_sweep_ = end + kShare * (end - now);
}

void Acceptor::Tick() {
  const MonotonicTime now = MonotonicNow();
  next_tick_ = now + kTick;
  Sweep();
  for (auto id = table_.OldestSilent();
       id.has_value() && now - table_.Find(*id)->opened >= options_.silent_timeout;
       id = table_.OldestSilent()) {
    CloseSilent(*id);
    metrics_.Count(Refused::kSilent);
  }
  metrics_.SetOpen(table_.size(), table_.n_silent());
  if (now >= next_count_) {
    metrics_.SetDescriptors(CountOpenDescriptors(), SoftLimit());
    next_count_ = now + kCountInterval;
  }
  if (return_memory_at_.has_value() && now >= *return_memory_at_) {
    ReturnFreeMemory();  // a burst of calls had taken hundreds of megabytes
    return_memory_at_.reset();
  }
  if (options_.every_second) options_.every_second();
}

}  // namespace coterie::net
