#include "kernels/devices/cuda_build.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/status.h"
// COTERIE_CUDA_MODE_*, COTERIE_CUDA_TOOLKIT and COTERIE_CUDA_ARCHITECTURES: kernels/CMakeLists.txt.

namespace coterie::devices {
namespace {

bool RunsOn(std::string architecture, int major, int minor) {
  const bool exact = !architecture.empty() && architecture.back() == 'a';
  if (exact || (!architecture.empty() && architecture.back() == 'f')) architecture.pop_back();
  int number = 0;
  if (!absl::SimpleAtoi(architecture, &number) || number / 10 != major) return false;
  return exact ? number % 10 == minor : number % 10 <= minor;
}

// "13.0.88" -> 13000.
[[maybe_unused]] int VersionOf(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, '.');
  int major = 0, minor = 0;
  if (parts.size() < 2 || !absl::SimpleAtoi(parts[0], &major) || !absl::SimpleAtoi(parts[1], &minor))
    return 0;
  return 1000 * major + 10 * minor;
}

}  // namespace

bool CudaBuild::HasCodeFor(int major, int minor) const {
  return std::any_of(architectures.begin(), architectures.end(),
                     [&](const std::string& one) { return RunsOn(one, major, minor); });
}

CudaBuild ThisCudaBuild() {
  CudaBuild build;
#if defined(COTERIE_CUDA_MODE_EMULATED)
  build.mode = CudaBuild::Mode::kEmulated;
#elif defined(COTERIE_CUDA_MODE_ON)
  build.mode = CudaBuild::Mode::kDevices;
  build.toolkit_version = VersionOf(COTERIE_CUDA_TOOLKIT);
  build.architectures = absl::StrSplit(COTERIE_CUDA_ARCHITECTURES, ',');
#endif
  return build;
}

std::string CudaVersionText(int version) { return absl::StrCat(version / 1000, ".", version % 1000 / 10); }

}  // namespace coterie::devices
