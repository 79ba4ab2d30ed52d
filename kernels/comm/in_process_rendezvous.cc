#include "kernels/comm/in_process_rendezvous.h"

#include <algorithm>
#include <optional>

#include "common/quoted.h"

namespace coterie {
namespace {

Status CheckKey(const RendezvousKey& key) {
  if (key.group.empty() || key.group.size() > Rendezvous::kMaxGroupBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a group's name of ", key.group.size(),
                                                   " bytes; it must have 1 to ", Rendezvous::kMaxGroupBytes));
  }
  if (key.rank < 0 || key.rank >= kMaxMembers) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank is ", key.rank, "; members have ranks 0 to ", kMaxMembers - 1));
  }
  if (key.topic.empty() || key.topic.size() > Rendezvous::kMaxTopicBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a topic of ", key.topic.size(),
                                                   " bytes; it must have 1 to ", Rendezvous::kMaxTopicBytes));
  }
  return absl::OkStatus();
}

Status Full(std::string_view what, size_t limit) {
  return absl::ResourceExhaustedError(
      absl::StrCat("the rendezvous is full: it holds at most ", limit, " ", ToAbsl(what)));
}

Status PastEpoch(const RendezvousKey& key, uint64_t newest) {
  return absl::FailedPreconditionError(absl::StrCat("epoch ", key.epoch, " of group ", Quoted(key.group),
                                                    " is past; it is forming under epoch ", newest));
}

// Takes as long whatever is equal: how much of a guess was right must not show.
bool SameToken(const std::string& a, const std::string& b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i)
    difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  return difference == 0;
}

// Await's own.
class BlockedThread : public RendezvousWaiter {
 public:
  void Answer(StatusOr<std::string> text) override {
    MutexLock lock(&mutex);
    answer = std::move(text);
    answered.SignalAll();
  }

  Mutex mutex;
  CondVar answered;
  std::optional<StatusOr<std::string>> answer ABSL_GUARDED_BY(mutex);
};

}  // namespace

InProcessRendezvous::~InProcessRendezvous() {
  MutexLock lock(&mutex_);  // behind whoever asked last, on another thread
  groups_.clear();
}

void InProcessRendezvous::DropTexts(Group* group) {
  for (const auto& [place, text] : group->texts) n_bytes_ -= text.size();
  group->texts.clear();
}

void InProcessRendezvous::DropIdle() {
  const MonotonicTime oldest = MonotonicNow() - limits_.idle_time;
  for (auto one = groups_.begin(); one != groups_.end();) {
    if (!one->second.waits.empty() || one->second.last_asked >= oldest) {
      ++one;
      continue;
    }
    DropTexts(&one->second);
    one = groups_.erase(one);
  }
}

StatusOr<InProcessRendezvous::Group*> InProcessRendezvous::Find(const std::string& name) {
  DropIdle();
  auto found = groups_.find(name);
  if (found == groups_.end()) {
    if (groups_.size() >= limits_.max_groups) return Full("groups", limits_.max_groups);
    found = groups_.emplace(name, Group{}).first;
  }
  found->second.last_asked = MonotonicNow();
  return &found->second;
}

Status InProcessRendezvous::Publish(const RendezvousKey& key, const std::string& text, MonotonicTime,
                                    const AbortFlag&) {
  RETURN_IF_ERROR(CheckKey(key));
  if (text.size() > kMaxBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a text of ", text.size(), " bytes under ",
                                                   Quoted(key.topic), "; a rendezvous takes at most ",
                                                   kMaxBytes));
  }
  Answers answers;
  Status status;
  {
    MutexLock lock(&mutex_);
    status = PublishLocked(key, text, &answers);
  }
  for (auto& [waiter, answer] : answers) waiter->Answer(std::move(answer));
  return status;
}

Status InProcessRendezvous::PublishLocked(const RendezvousKey& key, const std::string& text,
                                          Answers* answers) {
  ASSIGN_OR_RETURN(Group* const group, Find(key.group));
  if (group->epoch > key.epoch) return PastEpoch(key, group->epoch);
  if (group->epoch < key.epoch) DropTexts(group);
  group->epoch = key.epoch;
  if (group->texts.contains({key.rank, key.topic})) {
    return absl::AlreadyExistsError(absl::StrCat("somebody is member ", key.rank, " of group ",
                                                 Quoted(key.group), ", epoch ", key.epoch, " already"));
  }
  if (group->texts.size() >= limits_.max_texts) return Full("texts of one group", limits_.max_texts);
  if (n_bytes_ + text.size() > limits_.max_bytes) return Full("bytes", limits_.max_bytes);
  group->texts.emplace(std::pair{key.rank, key.topic}, text);
  n_bytes_ += text.size();
  for (auto wait = group->waits.begin(); wait != group->waits.end();) {
    const bool is_past = wait->second.epoch < group->epoch;
    if (!is_past && wait->second != key) {
      ++wait;
      continue;
    }
    if (is_past) {
      answers->emplace_back(wait->first, PastEpoch(wait->second, group->epoch));
    } else {
      answers->emplace_back(wait->first, text);
    }
    wait = group->waits.erase(wait);
    --n_waits_;
  }
  return absl::OkStatus();
}

void InProcessRendezvous::Watch(const RendezvousKey& key, RendezvousWaiter* waiter) {
  const Status checked = CheckKey(key);
  StatusOr<std::string> answer = std::string();
  if (checked.ok()) {
    MutexLock lock(&mutex_);
    answer = WatchLocked(key, waiter);
  } else {
    answer = checked;
  }
  if (!absl::IsNotFound(answer.status())) waiter->Answer(std::move(answer));
}

StatusOr<std::string> InProcessRendezvous::WatchLocked(const RendezvousKey& key, RendezvousWaiter* waiter) {
  ASSIGN_OR_RETURN(Group* const group, Find(key.group));
  if (group->epoch > key.epoch) return PastEpoch(key, group->epoch);
  if (group->epoch == key.epoch) {
    const auto text = group->texts.find({key.rank, key.topic});
    if (text != group->texts.end()) return text->second;
  }
  if (n_waits_ >= limits_.max_waits) return Full("waiting calls", limits_.max_waits);
  group->waits.emplace(waiter, key);
  ++n_waits_;
  return absl::NotFoundError("");
}

bool InProcessRendezvous::Unwatch(const std::string& name, RendezvousWaiter* waiter) {
  MutexLock lock(&mutex_);
  const auto group = groups_.find(name);
  if (group == groups_.end() || group->second.waits.erase(waiter) == 0) return false;
  --n_waits_;
  group->second.last_asked = MonotonicNow();
  const Group& left = group->second;
  if (left.waits.empty() && left.texts.empty() && left.token.empty()) groups_.erase(group);
  return true;
}

StatusOr<std::string> InProcessRendezvous::Await(const RendezvousKey& key, MonotonicTime deadline,
                                                 const AbortFlag& abort) {
  BlockedThread waiter;
  Watch(key, &waiter);
  for (;;) {
    const MonotonicTime now = MonotonicNow();
    {
      MutexLock lock(&waiter.mutex);
      if (waiter.answer) return *std::move(waiter.answer);
      if (!abort.raised() && now < deadline) {
        waiter.answered.WaitUntil(&waiter.mutex, std::min(deadline, now + kAbortSlice));
        continue;
      }
    }
    // Not with its lock held, which whoever answers takes.
    if (Unwatch(key.group, &waiter)) break;
    MutexLock lock(&waiter.mutex);
    while (!waiter.answer) waiter.answered.Wait(&waiter.mutex);  // it is on its way
  }
  if (abort.raised()) return absl::CancelledError("aborted");
  return absl::DeadlineExceededError("nothing was published in time");
}

Status InProcessRendezvous::Open(const std::string& name, const std::string& token) {
  RETURN_IF_ERROR(CheckKey({.group = name, .topic = "card"}));
  if (token.empty()) return absl::InvalidArgumentError("a group cannot be open to all: it wants a token");
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(Group* const group, Find(name));
  if (!group->token.empty()) {
    return absl::AlreadyExistsError(
        absl::StrCat("group ", Quoted(name), " is open already; give the new one another name"));
  }
  group->token = token;
  return absl::OkStatus();
}

Status InProcessRendezvous::Admit(const std::string& name, const std::string& token) {
  MutexLock lock(&mutex_);
  DropIdle();
  const auto group = groups_.find(name);
  if (group != groups_.end() && !group->second.token.empty() && SameToken(group->second.token, token)) {
    group->second.last_asked = MonotonicNow();
    return absl::OkStatus();
  }
  return absl::PermissionDeniedError(absl::StrCat(
      "no group ", Quoted(name), " of this token is open here: it is over, or the token is of another one"));
}

void InProcessRendezvous::Forget(const std::string& name) {
  Groups::node_type forgotten;
  {
    MutexLock lock(&mutex_);
    const auto group = groups_.find(name);
    if (group == groups_.end()) return;
    DropTexts(&group->second);
    n_waits_ -= group->second.waits.size();
    forgotten = groups_.extract(group);
  }
  for (const auto& [waiter, key] : forgotten.mapped().waits) {
    waiter->Answer(absl::AbortedError(absl::StrCat("group ", Quoted(name), " is over")));
  }
}

size_t InProcessRendezvous::size() const {
  MutexLock lock(&mutex_);
  size_t n = 0;
  for (const auto& [name, group] : groups_) n += group.texts.size();
  return n;
}

size_t InProcessRendezvous::n_waits() const {
  MutexLock lock(&mutex_);
  return n_waits_;
}

size_t InProcessRendezvous::n_groups() const {
  MutexLock lock(&mutex_);
  return groups_.size();
}

}  // namespace coterie
