#include "common/nearest.h"

#include <algorithm>
#include <vector>

namespace coterie {
namespace {

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string_view Nearest(std::string_view written, std::span<const std::string_view> known) {
  constexpr size_t kMaxEdits = 3;
  constexpr size_t kMaxBytes = 64;  // no name of ours is so long
  if (written.size() > kMaxBytes) return "";
  std::string_view nearest;
  size_t best = kMaxEdits + 1;
  for (const std::string_view candidate : known) {
    const size_t distance = EditDistance(written, candidate);
    if (distance < best && 2 * distance <= std::min(written.size(), candidate.size())) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace coterie
