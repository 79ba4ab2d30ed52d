#include "kernels/dot_rows.h"

#include "kernels/cpu/isa.h"

namespace coterie {
namespace {

const cpu::KernelTable& Kernels() {
  static const cpu::KernelTable* const table = cpu::AvailableKernels().front();
  return *table;
}

}  // namespace

void DotRows(std::span<const float> query, const float* rows, std::span<float> scores) {
  Kernels().dot_rows(query.data(), rows, static_cast<int64_t>(scores.size()),
                     static_cast<int64_t>(query.size()), scores.data());
}

}  // namespace coterie
