#ifndef COTERIE_GATEWAY_ROUTING_CATALOGUE_WATCH_H_
#define COTERIE_GATEWAY_ROUTING_CATALOGUE_WATCH_H_

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "common/digest.h"
#include "common/mutex.h"
#include "gateway/routing/router_states.h"
#include "gateway/routing/routing_files.h"
#include "model/store/expert_store.h"

namespace coterie::gateway {

// Keeps the router in step with the store and the routing files: polls them (remote volumes send no change
// events) and replaces the router's state when a generation or a file has come. What cannot be read leaves
// the old state in service and is logged. An expert whose prototypes cannot be read, or are not this
// embedder's, is passed over by routing, named in the state's problems, and tried again; no other expert
// suffers. Thread-safe.
class CatalogueWatch {
 public:
  // Reads the present generation and files first; fails when the files cannot be read. `options.routing` gets
  // the files' rules and classifier. `embedder`: the digest of the one that embeds questions; empty: none.
  static StatusOr<std::unique_ptr<CatalogueWatch>> Start(ExpertStore* store, RouterState::Options options,
                                                         Digest embedder, RoutingFiles files,
                                                         absl::Duration interval);
  ~CatalogueWatch();

  RouterStates* routers() { return routers_.get(); }
  // Looks at the store at once, so that a publisher's answer means that routing has followed. DataLoss when
  // the catalogue is lost; routing follows what is served then.
  Status Refresh();

 private:
  CatalogueWatch(ExpertStore* store, RouterState::Options options, Digest embedder, RoutingFiles files,
                 absl::Duration interval)
      : store_(store),
        interval_(interval),
        embedder_(embedder),
        dim_(options.dim),
        options_(std::move(options)),
        files_(std::move(files)) {}
  Status RefreshFiles();
  // Replaces the state if the store or the options have another one, or a problem is gone.
  Status Follow() ABSL_EXCLUSIVE_LOCKS_REQUIRED(build_mutex_);
  void Run();
  // What `entry` is in the index; without prototypes, and a problem appended, when those are not to be used.
  IndexedExpert Index(const CatalogueEntry& entry, std::vector<ExpertProblem>* problems) const;
  // The prototypes of `entry`, or why there are none.
  StatusOr<std::vector<float>> UsablePrototypes(const CatalogueEntry& entry) const;
  // The index of `before` after what the store's catalogue changes: new, changed and removed experts, and
  // some of those with problems again; the very same where nothing does. Problems of the experts that stay as
  // they are go into *problems, too.
  StatusOr<std::shared_ptr<const ExpertIndex>> Changed(const RouterState& before, const Catalogue& next,
                                                       std::vector<ExpertProblem>* problems)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(build_mutex_);

  ExpertStore* const store_;
  const absl::Duration interval_;
  const Digest embedder_;
  const size_t dim_;  // of its vectors; 0: there is none
  std::unique_ptr<RouterStates> routers_;

  Mutex build_mutex_;  // one build at a time
  RouterState::Options options_ ABSL_GUARDED_BY(build_mutex_);
  RoutingFiles files_ ABSL_GUARDED_BY(build_mutex_);
  bool options_changed_ ABSL_GUARDED_BY(build_mutex_) = false;  // since the current state was built
  std::string tried_last_ ABSL_GUARDED_BY(build_mutex_);  // the last name whose problem was looked at again

  Mutex stop_mutex_;
  CondVar stopping_;
  bool stop_ ABSL_GUARDED_BY(stop_mutex_) = false;
  std::thread thread_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ROUTING_CATALOGUE_WATCH_H_
