#ifndef COTERIE_GATEWAY_CATALOGUE_WATCH_H_
#define COTERIE_GATEWAY_CATALOGUE_WATCH_H_

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "common/mutex.h"
#include "gateway/router_states.h"
#include "gateway/routing_files.h"
#include "model/store/expert_store.h"

namespace coterie::gateway {

// Keeps the router in step with the store and the routing files: polls them (remote volumes send no change
// events) and replaces the router's state when a generation or a file has come. What cannot be read leaves
// the old state in service and is logged. Thread-safe.
class CatalogueWatch {
 public:
  // Reads the present generation and files first; fails when those cannot be routed. `options.routing` gets
  // the files' rules and classifier.
  static StatusOr<std::unique_ptr<CatalogueWatch>> Start(ExpertStore* store, RouterState::Options options,
                                                         RoutingFiles files, absl::Duration interval);
  ~CatalogueWatch();

  RouterStates* routers() { return routers_.get(); }
  // Looks at the store at once, so that a publisher's answer means that routing has followed.
  Status Refresh();

 private:
  CatalogueWatch(ExpertStore* store, RouterState::Options options, RoutingFiles files,
                 absl::Duration interval)
      : store_(store), interval_(interval), options_(std::move(options)), files_(std::move(files)) {}
  Status RefreshFiles();
  // Replaces the state if the store or the options have another one.
  Status Follow() ABSL_EXCLUSIVE_LOCKS_REQUIRED(build_mutex_);
  void Run();
  // The state of the store's snapshot; prototypes of revisions that did not change are not read again.
  StatusOr<std::shared_ptr<const RouterState>> Build() ABSL_EXCLUSIVE_LOCKS_REQUIRED(build_mutex_);

  ExpertStore* const store_;
  const absl::Duration interval_;
  std::unique_ptr<RouterStates> routers_;

  Mutex build_mutex_;  // one build at a time
  RouterState::Options options_ ABSL_GUARDED_BY(build_mutex_);
  RoutingFiles files_ ABSL_GUARDED_BY(build_mutex_);
  bool options_changed_ ABSL_GUARDED_BY(build_mutex_) = false;  // since the current state was built
  // [n, dim] by revision, of the experts of the last state.
  absl::flat_hash_map<Digest, std::vector<float>> prototypes_ ABSL_GUARDED_BY(build_mutex_);

  Mutex stop_mutex_;
  CondVar stopping_;
  bool stop_ ABSL_GUARDED_BY(stop_mutex_) = false;
  std::thread thread_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_CATALOGUE_WATCH_H_
