#ifndef COTERIE_TESTS_REAL_MODELS_H_
#define COTERIE_TESTS_REAL_MODELS_H_

#include <cstdlib>
#include <filesystem>

namespace coterie::testing {

// Where tools/fetch-models puts the base and the encoder: $COTERIE_MODELS, else ~/.cache/coterie/models.
inline std::filesystem::path RealModels() {
  if (const char* folder = std::getenv("COTERIE_MODELS"); folder != nullptr) return folder;
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home == nullptr ? "." : home) / ".cache/coterie/models";
}
inline std::filesystem::path RealBase() { return RealModels() / "SmolLM2-135M-Instruct.Q4_1.gguf"; }

// No script fetches this one: tests/golden/README.md.
inline std::filesystem::path RealGemma() { return RealModels() / "gemma-3-270m-q4_k_m.gguf"; }

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_REAL_MODELS_H_
