#ifndef COTERIE_TESTS_BENCH_GPU_LINES_H_
#define COTERIE_TESTS_BENCH_GPU_LINES_H_

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

// What the cases of bench_gpu share: adapters, and lines of JSON.
namespace coterie::bench {

inline constexpr int kAdapters = 16;  // of each rank
inline const std::vector<int> kRanks = {16, 8, 64};
inline const std::vector<int> kMixed = {8, 16, 64, 16};  // in turn
inline constexpr int kChunkTokens = 2048;                // of a long prompt in one step

inline void Print(const std::string& fields) {
  std::printf("{%s}\n", fields.c_str());
  std::fflush(stdout);  // what was measured stays, whatever comes
}

inline std::string JsonText(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}
inline std::string Milliseconds(double seconds) { return absl::StrCat(seconds * 1e3); }
// A ratio, or null where one side was not measured.
inline std::string Ratio(double a, double b) { return a > 0 && b > 0 ? absl::StrCat(a / b) : "null"; }

}  // namespace coterie::bench

#endif  // COTERIE_TESTS_BENCH_GPU_LINES_H_
