// Any text as a config.json: what is accepted must be usable without overflow.
#include <cstddef>
#include <cstdint>

#include "model/format/model_config.h"
#include "model/format/model_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto config =
      coterie::ModelConfigFromJson({reinterpret_cast<const char*>(data), size}, "config.json");
  if (!config.ok()) return 0;
  (void)coterie::CanonicalText(*config);
  (void)coterie::RopeInverseFrequencies(*config, config->context_length);
  (void)coterie::LocalRopeInverseFrequencies(*config);
  (void)coterie::HalfSplitRowOrder(config->n_heads, config->head_dim);
  for (int r = 0; r < coterie::kWeightRoleCount; ++r) {
    (void)coterie::WeightShape(*config, static_cast<coterie::WeightRole>(r));
  }
  return 0;
}
