#include "tools/coterie/cluster.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/cores.h"
#include "common/file.h"
#include "common/quoted.h"
#include "tools/coterie/up_devices.h"

namespace coterie::command {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kPoll = absl::Milliseconds(50);
constexpr absl::Duration kStopPatience = absl::Seconds(10);
constexpr int kLogLines = 8;
// The driver may take long to wake its devices; a worker that lists them gives up before.
constexpr absl::Duration kDevicePatience = absl::Seconds(90);
// A process that ends sooner than this is started again later each time: its device may be gone for good.
constexpr absl::Duration kSoon = absl::Seconds(10);
constexpr absl::Duration kLongestPause = absl::Seconds(30);

// AlreadyExists when something listens there already.
Status CheckPortFree(const std::string& what, const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("address ", Quoted(address), " of the ", what, " has no :PORT"));
  }
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const std::string host = address.substr(0, colon), port = address.substr(colon + 1);
  if (const int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("address ", Quoted(address), " of the ", what, ": ", ::gai_strerror(error)));
  }
  const int fd = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const int error = ::bind(fd, found->ai_addr, found->ai_addrlen) == 0 ? 0 : errno;
  ::freeaddrinfo(found);
  ::close(fd);
  if (error == 0) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat("cannot listen on ", address, " for the ", what, ": ",
                   error == EADDRINUSE ? "the port is taken; end what runs there or choose another port"
                                       : ErrnoStatus(error, "bind", address).message()));
}

Status CheckExists(const std::string& what, const std::string& path, const std::string& flag) {
  std::error_code error;
  if (fs::exists(path, error)) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat(
      what, " ", path, " is missing; fetch it with tools/fetch-models, or name one with ", flag));
}

StatusOr<UpDevices> DevicesFor(const ClusterOptions& options, const fs::path& worker) {
  const bool only_cpu = options.devices == std::vector<std::string>{"cpu"};
  if (only_cpu) return ChooseUpDevices(options.devices, {}, options.workers);
  StatusOr<std::vector<ListedDevice>> listed =
      AskForDevices(worker, fs::path(options.run_folder) / "devices.log", kDevicePatience);
  if (!listed.ok()) listed = {{"cuda", false, std::string(listed.status().message())}};
  return ChooseUpDevices(options.devices, *listed, options.workers);
}

}  // namespace

std::vector<std::string> DivideCores(int n) {
  const std::vector<int> cores = AllowedCores();
  const auto count = static_cast<int>(cores.size());
  std::vector<std::string> lists(static_cast<size_t>(n));
  if (count < n) return lists;
  for (int i = 0; i < n; ++i) {
    const auto begin = cores.begin() + count * i / n, end = cores.begin() + count * (i + 1) / n;
    lists[static_cast<size_t>(i)] = absl::StrJoin(begin, end, ",");
  }
  return lists;
}

StatusOr<std::unique_ptr<Cluster>> Cluster::Start(ClusterOptions options) {
  RETURN_IF_ERROR(CheckExists("the base model", options.model, "--model"));
  RETURN_IF_ERROR(CheckExists("the embedder", options.embedder, "--embedder"));
  for (const std::string& file : {options.rules, options.classifier}) {
    std::error_code error;
    if (!file.empty() && !fs::exists(file, error)) {
      return absl::NotFoundError(absl::StrCat("the routing file ", file, " is missing"));
    }
  }
  RETURN_IF_ERROR(CheckPortFree("gateway", options.listen));
  RETURN_IF_ERROR(CheckPortFree("gateway's admin service", options.admin_listen));
  if (!options.http_listen.empty()) RETURN_IF_ERROR(CheckPortFree("gateway's HTTP", options.http_listen));
  if (options.metrics_port > 0) {
    RETURN_IF_ERROR(CheckPortFree("gateway's metrics", absl::StrCat("127.0.0.1:", options.metrics_port)));
  }
  std::error_code error;
  for (const std::string& folder : {options.store, options.run_folder}) {
    fs::create_directories(folder, error);
    if (error) return ErrnoStatus(error.value(), "cannot make the folder", folder);
  }
  const fs::path binaries = fs::read_symlink("/proc/self/exe", error).parent_path();
  ASSIGN_OR_RETURN(const UpDevices chosen, DevicesFor(options, binaries / "coterie-worker"));
  std::vector<std::string> addresses;
  for (size_t i = 0; i < chosen.devices.size(); ++i) {
    addresses.push_back(absl::StrCat("127.0.0.1:", options.worker_port + static_cast<int>(i)));
    RETURN_IF_ERROR(CheckPortFree(absl::StrCat("worker ", i + 1), addresses.back()));
  }

  std::unique_ptr<Cluster> cluster(new Cluster(std::move(options)));
  const ClusterOptions& o = cluster->options_;
  Member gateway{.name = "gateway"};
  gateway.command = {(binaries / "coterie-gateway").string(),
                     "--model=" + o.model,
                     "--embedder=" + o.embedder,
                     "--store=" + o.store,
                     "--workers=" + absl::StrJoin(addresses, ","),
                     "--listen=" + o.listen,
                     "--admin-listen=" + o.admin_listen,
                     "--http-listen=" + o.http_listen,
                     absl::StrCat("--metrics-port=", o.metrics_port)};
  gateway.command.push_back("--policy=" + o.policy);
  gateway.command.push_back(absl::StrCat("--shadow-share=", o.shadow_share));
  if (!o.keys.empty()) gateway.command.push_back("--keys=" + o.keys);
  if (o.insecure_listen) gateway.command.push_back("--insecure-listen");
  if (!o.rules.empty()) gateway.command.push_back("--rules=" + o.rules);
  if (!o.classifier.empty()) gateway.command.push_back("--classifier=" + o.classifier);
  cluster->members_.push_back(std::move(gateway));
  cluster->device_note_ = chosen.note;
  cluster->AddWorkers(chosen.devices, addresses, (binaries / "coterie-worker").string());
  for (Member& member : cluster->members_) RETURN_IF_ERROR(cluster->Launch(&member));
  return cluster;
}

void Cluster::AddWorkers(const std::vector<std::string>& devices, const std::vector<std::string>& addresses,
                         const std::string& program) {
  const ClusterOptions& o = options_;
  const std::vector<std::string> cores = DivideCores(static_cast<int>(devices.size()));
  for (size_t i = 0; i < devices.size(); ++i) {
    const bool on_cpu = devices[i] == "cpu";
    Member worker{.name = absl::StrCat("worker-", on_cpu ? absl::StrCat(i + 1) : devices[i])};
    std::replace(worker.name.begin(), worker.name.end(), ':', '-');  // it names a file, too
    worker.command = {program,
                      "--model=" + o.model,
                      "--store=" + o.store,
                      "--listen=" + addresses[i],
                      "--id=" + worker.name,
                      "--mode=" + o.mode,
                      "--weights=" + o.weights,
                      "--device=" + devices[i],
                      absl::StrCat("--adapter-slots=", o.adapter_slots)};
    if (o.arrow_gates) worker.command.push_back("--arrow-gates");
    if (on_cpu) worker.command.push_back(cores[i].empty() ? "--threads=1" : "--cores=" + cores[i]);
    members_.push_back(std::move(worker));
  }
}

Cluster::~Cluster() {
  // The gateway first: it lets its answers end while the workers are still there.
  for (Member& member : members_) {
    if (member.process != nullptr && &member == members_.data()) member.process->Stop(kStopPatience);
  }
  for (Member& member : members_) {
    if (member.process != nullptr) member.process->AskToStop();
  }
  for (Member& member : members_) {
    if (member.process != nullptr) member.process->Stop(kStopPatience);
  }
}

Status Cluster::Launch(Member* member) {
  member->started = MonotonicNow();
  member->ended = MonotonicTime::InfiniteFuture();
  ASSIGN_OR_RETURN(member->process, ChildProcess::Start(member->command, fs::path(options_.run_folder) /
                                                                             (member->name + ".log")));
  return absl::OkStatus();
}

Status Cluster::WaitReady(client::Client* client, client::Cancellation* cancellation) {
  const MonotonicTime deadline = MonotonicNow() + options_.start_timeout;
  std::string waiting_for = "the gateway";
  std::string said;
  while (MonotonicNow() < deadline) {
    if (cancellation->cancelled()) return absl::CancelledError("interrupted");
    for (Member& member : members_) {
      if (const auto ended = member.process->Ended()) {
        return absl::FailedPreconditionError(absl::StrCat("the ", member.name, " ", *ended, "; the end of ",
                                                          member.process->log().string(), ":\n",
                                                          member.process->LogTail(kLogLines)));
      }
    }
    if (const StatusOr<v1::StatusResponse> status = client->ClusterStatus(absl::Seconds(2)); status.ok()) {
      int ready = 0;
      for (const v1::WorkerStatus& worker : status->workers()) {
        if (worker.health() == v1::WORKER_HEALTH_REFUSED) {
          return absl::FailedPreconditionError(
              absl::StrCat("the worker at ", worker.address(), " was refused: ", worker.message()));
        }
        ready += worker.health() == v1::WORKER_HEALTH_READY ? 1 : 0;
      }
      const auto n = static_cast<int>(n_workers());
      if (ready == n) return absl::OkStatus();
      waiting_for = absl::StrCat(n - ready, " of ", n, " workers");
    }
    if (waiting_for != said) std::fprintf(stderr, "waiting for %s\n", waiting_for.c_str());
    said = waiting_for;
    absl::SleepFor(kPoll);
  }
  return absl::DeadlineExceededError(absl::StrCat("still waiting for ", waiting_for, " after ",
                                                  absl::FormatDuration(options_.start_timeout),
                                                  "; logs are in ", options_.run_folder));
}

std::vector<std::string> Cluster::Revive() {
  std::vector<std::string> lines;
  for (Member& member : members_) {
    const auto ended = member.process->Ended();
    if (!ended) continue;
    const MonotonicTime now = MonotonicNow();
    member.ended = std::min(member.ended, now);
    if (now - member.started < member.pause) continue;
    const bool soon = member.ended - member.started < kSoon;
    member.pause = soon ? std::min(2 * member.pause, kLongestPause) : absl::Seconds(1);
    lines.push_back(absl::StrCat(member.name, " ", *ended, "; starting it again"));
    if (const Status status = Launch(&member); !status.ok()) lines.emplace_back(status.message());
  }
  return lines;
}

}  // namespace coterie::command
