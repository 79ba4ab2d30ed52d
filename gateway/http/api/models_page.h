#ifndef COTERIE_GATEWAY_HTTP_API_MODELS_PAGE_H_
#define COTERIE_GATEWAY_HTTP_API_MODELS_PAGE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "common/mutex.h"
#include "common/name_patterns.h"
#include "common/status.h"
#include "gateway/core/gateway_core.h"

namespace coterie::gateway::http {

// What /v1/models says: "auto" (where questions can be routed), "base", then the experts by name. The page of
// thousands of experts has megabytes: it is written once for a generation of the catalogue, and all who read
// it, however slowly, share it. Thread-safe.
class ModelsPage {
 public:
  explicit ModelsPage(const GatewayCore* core);

  // Takes as long as writing it when the generation is new: belongs on the work pool.
  std::shared_ptr<const std::string> Page();
  // The same with those experts alone; written anew for every reader.
  std::shared_ptr<const std::string> PageOf(const NamePatterns& experts) const;
  // One model's entry. NotFound for what would not answer a request, PermissionDenied for an expert that is
  // not among `experts` (null: all), whether it is there or not.
  StatusOr<std::string> Entry(const std::string& model, const NamePatterns* experts) const;

 private:
  std::shared_ptr<const std::string> Write(const Catalogue& catalogue, const NamePatterns* experts) const;

  const GatewayCore* const core_;
  const int64_t created_;
  Mutex mutex_;
  uint64_t generation_ ABSL_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<const std::string> page_ ABSL_GUARDED_BY(mutex_);  // null: never written
};

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_API_MODELS_PAGE_H_
