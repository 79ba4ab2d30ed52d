#ifndef COTERIE_TOOLS_COTERIE_CLUSTER_H_
#define COTERIE_TOOLS_COTERIE_CLUSTER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/status.h"
#include "tools/client/client.h"
#include "tools/coterie/child_process.h"

namespace coterie::command {

// What runs on this machine, and where.
struct ClusterOptions {
  std::string model;
  std::string embedder;
  std::string store;
  std::string run_folder;  // logs
  std::string mode = "fast";
  std::string weights = "auto";
  int workers = 1;                             // on the CPU; a GPU has one
  std::vector<std::string> devices = {"all"};  // see ChooseUpDevices
  int worker_port = 7601;                      // the first one's; the others follow
  int adapter_slots = 16;
  bool arrow_gates = false;
  std::string listen = "127.0.0.1:7070";
  std::string admin_listen = "127.0.0.1:7071";
  std::string http_listen = "127.0.0.1:7080";  // empty: none
  std::string policy = "nearest";              // the gateway's
  double shadow_share = 0.01;                  // likewise
  std::string rules;                           // likewise; empty: none
  std::string classifier;
  std::string keys;              // likewise
  bool insecure_listen = false;  // likewise
  int metrics_port = 9464;       // the gateway's; -1: none
  absl::Duration start_timeout = absl::Minutes(2);
};

// A gateway and its workers as children of this process. Workers on the CPU divide the cores that this
// process may use evenly; a worker on a GPU runs on the cores near it. A child that ends is started again.
// Not thread-safe.
class Cluster {
 public:
  // Checks models, routing files and ports first: NotFound naming what is missing and how to get it,
  // AlreadyExists for a taken port.
  static StatusOr<std::unique_ptr<Cluster>> Start(ClusterOptions options);
  ~Cluster();  // stops the gateway, then the workers

  // Blocks until every worker is ready. Fails with the end of the log when a process ends meanwhile.
  Status WaitReady(client::Client* client, client::Cancellation* cancellation);
  // Starts again what has ended: at once, unless it ended soon after its last start. Returns a line for each.
  std::vector<std::string> Revive();
  size_t n_workers() const { return members_.size() - 1; }
  // A line about the devices that were chosen; may be empty.
  const std::string& device_note() const { return device_note_; }

 private:
  struct Member {
    std::string name;
    std::vector<std::string> command;
    std::unique_ptr<ChildProcess> process;
    MonotonicTime started;
    MonotonicTime ended = MonotonicTime::InfiniteFuture();
    absl::Duration pause = absl::Seconds(1);  // between two starts at least
  };

  explicit Cluster(ClusterOptions options) : options_(std::move(options)) {}
  Status Launch(Member* member);
  void AddWorkers(const std::vector<std::string>& devices, const std::vector<std::string>& addresses,
                  const std::string& program);

  ClusterOptions options_;
  std::string device_note_;
  std::vector<Member> members_;  // the gateway first
};

// The cores this process may run on, divided into `n` lists for --cores ("0-3", "4,6"); every list is empty
// (no pinning) when there are fewer cores than lists.
std::vector<std::string> DivideCores(int n);

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_CLUSTER_H_
