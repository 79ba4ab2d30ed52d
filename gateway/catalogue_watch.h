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
#include "model/store/expert_store.h"

namespace coterie::gateway {

// Keeps the router in step with the store: polls the catalogue (remote volumes send no change events) and
// replaces the router's state when a generation has come. A generation that cannot be read leaves the old one
// in service and is logged. Thread-safe.
class CatalogueWatch {
 public:
  // Reads the present generation first; fails when that cannot be routed.
  static StatusOr<std::unique_ptr<CatalogueWatch>> Start(ExpertStore* store, RouterState::Options options,
                                                         absl::Duration interval);
  ~CatalogueWatch();

  RouterStates* routers() { return routers_.get(); }
  // Looks at once, so that a publisher's answer means that routing has followed.
  Status Refresh();

 private:
  CatalogueWatch(ExpertStore* store, RouterState::Options options, absl::Duration interval)
      : store_(store), options_(std::move(options)), interval_(interval) {}
  void Run();
  // The state of the store's snapshot; prototypes of revisions that did not change are not read again.
  StatusOr<std::shared_ptr<const RouterState>> Build() ABSL_EXCLUSIVE_LOCKS_REQUIRED(build_mutex_);

  ExpertStore* const store_;
  const RouterState::Options options_;
  const absl::Duration interval_;
  std::unique_ptr<RouterStates> routers_;

  Mutex build_mutex_;  // one build at a time
  // [n, dim] by revision, of the experts of the last state.
  absl::flat_hash_map<Digest, std::vector<float>> prototypes_ ABSL_GUARDED_BY(build_mutex_);

  Mutex stop_mutex_;
  CondVar stopping_;
  bool stop_ ABSL_GUARDED_BY(stop_mutex_) = false;
  std::thread thread_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_CATALOGUE_WATCH_H_
