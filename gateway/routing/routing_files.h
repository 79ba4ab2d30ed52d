#ifndef COTERIE_GATEWAY_ROUTING_ROUTING_FILES_H_
#define COTERIE_GATEWAY_ROUTING_ROUTING_FILES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "router/routing_policy.h"

namespace coterie::gateway {

// The rules matrix of a YAML text:
//
//   rules:
//     sql: postgres           a request that declares the domain sql goes to postgres
//     csv: [pandas, python]   the first of these that is published and permitted
//
// A domain has 1 to 64 bytes; an expert need not be published yet. InvalidArgument naming `name`, line,
// field, value and what is expected.
StatusOr<std::vector<coterie::RoutingOptions::Rule>> ParseRules(std::string_view yaml, std::string_view name);

// A multinomial logistic regression as a safetensors file: `weight` [n, dim] F32, `bias` [n] F32, and in the
// metadata `classes`, the n experts' names with commas between. InvalidArgument naming `name`, the tensor or
// the class, the value and what is expected.
StatusOr<ClassifierWeights> ParseClassifier(std::span<const uint8_t> bytes, std::string_view name,
                                            size_t dim);

// Two files that routing may read beside the catalogue. Not thread-safe.
class RoutingFiles {
 public:
  static constexpr size_t kMaxRulesBytes = size_t{1} << 20;
  static constexpr size_t kMaxClassifierBytes = size_t{64} << 20;

  // Empty paths: no such file. `dim`: the embedder's, 0 without one.
  RoutingFiles(std::string rules, std::string classifier, size_t dim)
      : rules_(std::move(rules)), classifier_(std::move(classifier)), dim_(dim) {}

  // Reads the files that changed since the last call into `options` and says whether any did; whoever writes
  // them should rename a finished file into place. An error leaves `options` as it is, and the next call
  // tries again.
  StatusOr<bool> Refresh(coterie::RoutingOptions* options);

 private:
  // Device, inode, modification time in nanoseconds, size; zeros for a file that is not there.
  using Identity = std::array<int64_t, 4>;
  static Identity Identify(const std::string& path);
  Status Read(coterie::RoutingOptions* options) const;

  const std::string rules_;
  const std::string classifier_;
  const size_t dim_;
  bool read_ = false;  // as they were when seen_ was taken
  std::array<Identity, 2> seen_ = {};
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ROUTING_ROUTING_FILES_H_
