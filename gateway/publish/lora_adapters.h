#ifndef COTERIE_GATEWAY_PUBLISH_LORA_ADAPTERS_H_
#define COTERIE_GATEWAY_PUBLISH_LORA_ADAPTERS_H_

#include <functional>
#include <string>
#include <vector>

#include "gateway/core/gateway_core.h"
#include "gateway/publish/lora_folders.h"
#include "gateway/routing/catalogue_watch.h"
#include "gateway/runtime/cancel_flag.h"
#include "gateway/runtime/work_pool.h"
#include "model/format/model_config.h"
#include "model/publishing/write_card.h"
#include "model/store/expert_store.h"

namespace coterie::gateway {

// What vLLM's /v1/load_lora_adapter says, and beside it what makes an expert that questions find.
struct LoraLoad {
  std::string name;
  std::string path;
  bool in_place = false;  // also where an expert of this name is live: then as a new version of it
  CardFields card;        // its name stays empty
  std::vector<std::string> examples;
};

// Publishes adapter folders of this machine's disk, and withdraws experts. Reading and checking an adapter
// takes seconds, so all of it happens on one thread of its own; a few wait there. Thread-safe.
class LoraAdapters {
 public:
  // `store` and `watch` are null where the gateway has no store; `base` may be null. All outlive this.
  LoraAdapters(const GatewayCore* core, ExpertStore* store, CatalogueWatch* watch, const ModelConfig* base,
               LoraFolders folders);
  ~LoraAdapters();

  // `done` is called once, from that thread, with a sentence about what happened; or not, with the reason
  // returned: ResourceExhausted when too many wait.
  using Done = std::function<void(StatusOr<std::string>)>;
  Status Load(LoraLoad load, Done done);
  Status Unload(std::string name, Done done);

 private:
  StatusOr<std::string> LoadNow(const LoraLoad& load);
  StatusOr<std::string> UnloadNow(const std::string& name);
  Status CheckName(const std::string& name) const;

  const GatewayCore* const core_;
  ExpertStore* const store_;
  CatalogueWatch* const watch_;
  const ModelConfig* const base_;
  const LoraFolders folders_;
  CancelFlag ends_;
  WorkPool thread_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_PUBLISH_LORA_ADAPTERS_H_
