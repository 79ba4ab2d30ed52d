#include "router/expert_map.h"

#include <algorithm>
#include <cmath>

#include "kernels/dot_rows.h"

namespace coterie {
namespace {

// Rows that the axes are computed from: more would turn them by less than anybody sees.
constexpr size_t kMaxAxisRows = 1024;
// Each brings the axis nearer by the ratio of two variances; a map needs no last digit.
constexpr int kMaxIterations = 48;
constexpr float kSettled = 1e-5f;

using Vector = std::vector<float>;

float Dot(const Vector& a, const Vector& b) {
  float sum = 0;
  DotRows(a, b.data(), {&sum, 1});
  return sum;
}

void AddScaled(std::span<const float> x, float factor, Vector* sum) {
  for (size_t i = 0; i < sum->size(); ++i) (*sum)[i] += factor * x[i];
}

// Of unit norm afterwards; false, and unchanged, where there is nothing to scale.
bool Normalize(Vector* v) {
  const float norm = std::sqrt(Dot(*v, *v));
  if (norm < 1e-6f) return false;
  for (float& value : *v) value /= norm;
  return true;
}

void TakeOut(const Vector* axis, Vector* v) {
  if (axis != nullptr) AddScaled(*axis, -Dot(*axis, *v), v);
}

// The direction in which `rows` ([n, dim], centred) differ most, at right angles to `other`, by the power
// method; some such direction where they do not differ.
Vector PrincipalAxis(const Vector& rows, size_t dim, const Vector* other) {
  const size_t n = rows.size() / dim;
  Vector axis(dim, 0.0f), next(dim), along(n);
  // Begin with the row that lies farthest out, which is never at right angles to all others.
  float farthest = 0;
  for (size_t i = 0; i < n; ++i) {
    Vector row(rows.begin() + static_cast<ptrdiff_t>(i * dim),
               rows.begin() + static_cast<ptrdiff_t>((i + 1) * dim));
    TakeOut(other, &row);
    if (const float square = Dot(row, row); square > farthest) {
      farthest = square;
      axis = std::move(row);
    }
  }
  for (size_t i = 0; !Normalize(&axis); ++i) {
    std::fill(axis.begin(), axis.end(), 0.0f);
    if (i == dim) return axis;  // one dimension has no second axis
    axis[i] = 1;
    TakeOut(other, &axis);
  }
  for (int iteration = 0; iteration < kMaxIterations; ++iteration) {
    DotRows(axis, rows.data(), along);
    std::fill(next.begin(), next.end(), 0.0f);
    for (size_t i = 0; i < n; ++i) {
      AddScaled(std::span(rows).subspan(i * dim, dim), along[i], &next);
    }
    TakeOut(other, &next);
    if (!Normalize(&next)) break;
    const float moved = 1 - std::abs(Dot(axis, next));
    axis.swap(next);
    if (moved < kSettled) break;
  }
  // Either sign would do: the map of one index is one map.
  const auto largest =
      std::max_element(axis.begin(), axis.end(), [](float a, float b) { return std::abs(a) < std::abs(b); });
  if (*largest < 0) {
    for (float& value : axis) value = -value;
  }
  return axis;
}

}  // namespace

ExpertMap::Point ExpertMap::Project(std::span<const float> embedding) const {
  Vector from_centre(embedding.begin(), embedding.end());
  AddScaled(centre, -1, &from_centre);
  return {Dot(axes[0], from_centre), Dot(axes[1], from_centre)};
}

ExpertMap DrawExpertMap(const ExpertIndex& index, const ExpertMapOptions& options) {
  const size_t dim = index.dim();
  std::vector<uint32_t> all;
  for (uint32_t e = 0; e < index.size(); ++e) {
    if (index.n_prototypes_of(e) > 0) all.push_back(e);
  }
  ExpertMap map;
  map.complete = all.size() <= options.max_points;
  const size_t n = std::min(all.size(), options.max_points);
  for (size_t i = 0; i < n; ++i) map.experts.push_back(all[i * all.size() / n]);
  const size_t per_expert =
      n == 0 ? 0 : std::clamp<size_t>(options.max_points / n, 1, options.max_points_of_expert);

  std::vector<std::span<const float>> drawn;
  Vector means;  // [n, dim]
  means.reserve(n * dim);
  map.offsets.push_back(0);
  for (const uint32_t e : map.experts) {
    const size_t n_rows = index.n_prototypes_of(e), n_drawn = std::min(n_rows, per_expert);
    Vector mean(dim, 0.0f);
    for (size_t i = 0; i < n_drawn; ++i) {
      drawn.push_back(index.prototype(e, i * n_rows / n_drawn));
      AddScaled(drawn.back(), 1.0f / static_cast<float>(n_drawn), &mean);
    }
    means.insert(means.end(), mean.begin(), mean.end());
    map.offsets.push_back(static_cast<uint32_t>(drawn.size()));
  }

  map.centre.assign(dim, 0.0f);
  for (size_t i = 0; i < n; ++i) {
    AddScaled(std::span(means).subspan(i * dim, dim), 1.0f / static_cast<float>(n), &map.centre);
  }
  // One or two experts span no plane by their means; their prototypes do.
  Vector rows;
  const bool by_means = n > 2;
  const size_t n_candidates = by_means ? n : drawn.size(), n_rows = std::min(n_candidates, kMaxAxisRows);
  for (size_t i = 0; i < n_rows; ++i) {
    const size_t which = i * n_candidates / n_rows;
    const auto row = by_means ? std::span<const float>(means).subspan(which * dim, dim) : drawn[which];
    for (size_t d = 0; d < dim; ++d) rows.push_back(row[d] - map.centre[d]);
  }
  map.axes[0] = PrincipalAxis(rows, dim, nullptr);
  map.axes[1] = PrincipalAxis(rows, dim, &map.axes[0]);
  map.points.reserve(drawn.size());
  for (const auto row : drawn) map.points.push_back(map.Project(row));
  return map;
}

}  // namespace coterie
