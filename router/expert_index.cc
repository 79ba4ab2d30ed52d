#include "router/expert_index.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "common/check.h"
#include "common/ids.h"
#include "kernels/dot.h"

namespace coterie {
namespace {

using router_internal::QuantizedRows;

constexpr size_t kMinQuantizedRows = 512;
// Rows are padded with zeros to a multiple of so many floats: a cache line, and what QuantizedRows wants.
constexpr size_t kRowFloats = 16;

Status CheckPrototypes(const IndexedExpert& expert, size_t dim) {
  if (expert.prototypes.size() % dim != 0) {
    return absl::InvalidArgumentError(absl::StrCat("expert ", expert.name, ": ", expert.prototypes.size(),
                                                   " prototype values are not a multiple of dimension ",
                                                   dim));
  }
  for (size_t row = 0; row < expert.prototypes.size() / dim; ++row) {
    double norm_squared = 0;
    for (size_t i = 0; i < dim; ++i) {
      const double value = expert.prototypes[row * dim + i];
      norm_squared += value * value;
    }
    // Written so that NaN fails too.
    if (!(std::abs(std::sqrt(norm_squared) - 1.0) <= 1e-3)) {
      return absl::InvalidArgumentError(absl::StrCat("expert ", expert.name, ": prototype ", row,
                                                     " has norm ", std::sqrt(norm_squared),
                                                     ", want 1 within 0.001"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<std::shared_ptr<const ExpertIndex>> ExpertIndex::Create(const Options& options,
                                                                 std::vector<IndexedExpert> experts) {
  if (options.dim == 0 || options.dim > 65536) {
    return absl::InvalidArgumentError(absl::StrCat("index dimension ", options.dim, " is outside 1..65536"));
  }
  if (experts.size() > options.max_experts) {
    return absl::ResourceExhaustedError(
        absl::StrCat("index of ", experts.size(), " experts, the limit is ", options.max_experts));
  }
  std::sort(experts.begin(), experts.end(),
            [](const IndexedExpert& a, const IndexedExpert& b) { return a.name < b.name; });
  size_t n_rows = 0;
  for (size_t i = 0; i < experts.size(); ++i) {
    RETURN_IF_ERROR(ValidateExpertName(experts[i].name));
    if (i > 0 && experts[i].name == experts[i - 1].name) {
      return absl::InvalidArgumentError(absl::StrCat("expert ", experts[i].name, " is in the index twice"));
    }
    if (experts[i].adapter.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("expert ", experts[i].name, " has no adapter digest"));
    }
    RETURN_IF_ERROR(CheckPrototypes(experts[i], options.dim));
    n_rows += experts[i].prototypes.size() / options.dim;
  }
  if (n_rows > options.max_prototypes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("index of ", n_rows, " prototypes, the limit is ", options.max_prototypes));
  }

  std::shared_ptr<ExpertIndex> index(new ExpertIndex(options));
  index->stride_ = (options.dim + kRowFloats - 1) / kRowFloats * kRowFloats;
  index->rows_.assign(n_rows * index->stride_, 0.0f);
  index->prototype_offsets_.push_back(0);
  float* row = index->rows_.data();
  std::vector<std::pair<std::string, uint32_t>> domains;
  for (size_t i = 0; i < experts.size(); ++i) {
    std::vector<float>& prototypes = experts[i].prototypes;
    for (size_t begin = 0; begin < prototypes.size(); begin += options.dim, row += index->stride_) {
      std::copy_n(prototypes.begin() + begin, options.dim, row);
    }
    index->prototype_offsets_.push_back(static_cast<uint32_t>((row - index->rows_.data()) / index->stride_));
    prototypes = {};
    for (const std::string& domain : experts[i].domains)
      domains.emplace_back(domain, static_cast<uint32_t>(i));
  }
  // A small index stays in the cache, and its full scan takes less than the two passes would.
  if (n_rows >= kMinQuantizedRows && QuantizedRows::Supported()) {
    index->quantized_ = QuantizedRows(index->rows_, index->stride_);
  }
  std::sort(domains.begin(), domains.end());
  domains.erase(std::unique(domains.begin(), domains.end()), domains.end());
  for (auto& [domain, expert] : domains) {
    if (index->domains_.empty() || index->domains_.back().domain != domain)
      index->domains_.push_back({domain, {}});
    index->domains_.back().experts.push_back(expert);
  }
  index->experts_ = std::move(experts);
  return std::shared_ptr<const ExpertIndex>(std::move(index));
}

Status ExpertIndex::CheckQuery(std::span<const float> query) const {
  if (query.size() != dim()) {
    return absl::InvalidArgumentError(
        absl::StrCat("embedding has dimension ", query.size(), ", the expert index has ", dim()));
  }
  for (size_t i = 0; i < query.size(); ++i) {
    if (!std::isfinite(query[i])) {
      return absl::InvalidArgumentError(
          absl::StrCat("embedding value ", i, " is ", query[i], ", not a finite number"));
    }
  }
  return absl::OkStatus();
}

StatusOr<std::vector<ExpertIndex::Hit>> ExpertIndex::ScoreAll(std::span<const float> query,
                                                              const ExpertMask* allowed) const {
  RETURN_IF_ERROR(CheckQuery(query));
  COTERIE_CHECK(allowed == nullptr || allowed->size() == size()) << "the mask is of another index: ";
  const std::vector<float> padded = Padded(query);
  std::vector<Hit> hits;
  hits.reserve(size());
  std::vector<float> scores;
  // Experts stand side by side in rows_: a run of allowed ones is one call.
  for (size_t first = 0; first < size();) {
    if (allowed != nullptr && !allowed->Test(first)) {
      ++first;
      continue;
    }
    size_t last = first + 1;
    while (last < size() && (allowed == nullptr || allowed->Test(last))) ++last;
    const size_t first_row = prototype_offsets_[first];
    const size_t n_rows = prototype_offsets_[last] - first_row;
    scores.resize(std::max(scores.size(), n_rows));
    DotRows(padded, rows_.data() + first_row * stride_, std::span(scores).first(n_rows));
    for (size_t e = first; e < last; ++e) {
      const float* begin = scores.data() + (prototype_offsets_[e] - first_row);
      const float* end = scores.data() + (prototype_offsets_[e + 1] - first_row);
      if (begin != end) hits.push_back({static_cast<uint32_t>(e), *std::max_element(begin, end)});
    }
    first = last;
  }
  return hits;
}

std::optional<std::vector<ExpertIndex::Hit>> ExpertIndex::Shortlist(const float* padded_query, size_t k,
                                                                    const ExpertMask* allowed,
                                                                    std::vector<Bounded>* others) const {
  const size_t n_rows = quantized_.n_rows();
  if (k == 0 || k > n_rows / 16) return std::nullopt;
  std::vector<uint32_t> experts;  // that may be answered and have rows
  size_t n_allowed_rows = 0;
  for (size_t e = 0; e < size(); ++e) {
    const size_t n = prototype_offsets_[e + 1] - prototype_offsets_[e];
    if (n == 0 || (allowed != nullptr && !allowed->Test(e))) continue;
    experts.push_back(static_cast<uint32_t>(e));
    n_allowed_rows += n;
  }
  // The first pass reads every row, allowed or not, at a quarter of the cost.
  if (experts.size() <= k || n_allowed_rows < n_rows / 4) return std::nullopt;
  std::vector<float> lower(n_rows), upper(n_rows);
  if (!quantized_.Bounds({padded_query, stride_}, lower.data(), upper.data())) return std::nullopt;

  // The k-th best lower bound: the k-th best score is no less, so whoever stays below it for certain is out.
  std::vector<float> best;  // a heap with the least of the k best in front
  for (const uint32_t e : experts) {
    const float bound =
        *std::max_element(lower.begin() + prototype_offsets_[e], lower.begin() + prototype_offsets_[e + 1]);
    if (best.size() == k && bound <= best.front()) continue;
    if (best.size() == k) {
      std::pop_heap(best.begin(), best.end(), std::greater<>());
      best.pop_back();
    }
    best.push_back(bound);
    std::push_heap(best.begin(), best.end(), std::greater<>());
  }
  const auto best_of = [&](const std::vector<float>& bounds, uint32_t e) {
    return *std::max_element(bounds.begin() + prototype_offsets_[e],
                             bounds.begin() + prototype_offsets_[e + 1]);
  };
  std::vector<Hit> hits;
  for (const uint32_t e : experts) {
    const float bound = best_of(upper, e);
    if (bound >= best.front()) {
      hits.push_back({e, ExactScore(padded_query, e)});
    } else if (others != nullptr) {
      others->push_back({e, best_of(lower, e), bound});
    }
  }
  return hits;
}

StatusOr<std::vector<ExpertIndex::Hit>> ExpertIndex::Search(std::span<const float> query, size_t k,
                                                            const ExpertMask* allowed) const {
  return SearchAndBound(query, k, allowed, nullptr);
}

StatusOr<std::vector<ExpertIndex::Hit>> ExpertIndex::SearchAndBound(std::span<const float> query, size_t k,
                                                                    const ExpertMask* allowed,
                                                                    std::vector<Bounded>* others) const {
  RETURN_IF_ERROR(CheckQuery(query));
  COTERIE_CHECK(allowed == nullptr || allowed->size() == size()) << "the mask is of another index: ";
  std::vector<Hit> hits;
  if (auto shortlist = Shortlist(Padded(query).data(), k, allowed, others); shortlist.has_value()) {
    hits = *std::move(shortlist);
  } else {
    ASSIGN_OR_RETURN(hits, ScoreAll(query, allowed));
  }
  k = std::min(k, hits.size());
  std::partial_sort(hits.begin(), hits.begin() + static_cast<ptrdiff_t>(k), hits.end(), Better);
  if (others != nullptr) {
    for (size_t i = k; i < hits.size(); ++i) {
      others->push_back({hits[i].expert, hits[i].score, hits[i].score});
    }
    std::sort(others->begin(), others->end(),
              [](const Bounded& a, const Bounded& b) { return a.expert < b.expert; });
  }
  hits.resize(k);
  return hits;
}

std::vector<float> ExpertIndex::Padded(std::span<const float> query) const {
  std::vector<float> padded(stride_, 0.0f);
  std::copy(query.begin(), query.end(), padded.begin());
  return padded;
}

float ExpertIndex::ExactScore(const float* padded_query, size_t expert) const {
  const size_t first_row = prototype_offsets_[expert];
  const size_t n_rows = prototype_offsets_[expert + 1] - first_row;
  std::vector<float> scores(n_rows);
  DotRows({padded_query, stride_}, rows_.data() + first_row * stride_, scores);
  return *std::max_element(scores.begin(), scores.end());
}

std::optional<float> ExpertIndex::Score(std::span<const float> query, size_t expert) const {
  if (prototype_offsets_[expert] == prototype_offsets_[expert + 1]) return std::nullopt;
  return ExactScore(Padded(query).data(), expert);
}

std::optional<uint32_t> ExpertIndex::Find(std::string_view name) const {
  const auto it = std::lower_bound(
      experts_.begin(), experts_.end(), name,
      [](const IndexedExpert& expert, std::string_view wanted) { return expert.name < wanted; });
  if (it == experts_.end() || it->name != name) return std::nullopt;
  return static_cast<uint32_t>(it - experts_.begin());
}

std::span<const uint32_t> ExpertIndex::WithDomain(std::string_view domain) const {
  const auto it = std::lower_bound(
      domains_.begin(), domains_.end(), domain,
      [](const DomainRange& range, std::string_view wanted) { return range.domain < wanted; });
  if (it == domains_.end() || it->domain != domain) return {};
  return it->experts;
}

ExpertMask ExpertIndex::MaskOf(std::span<const std::string> names) const {
  ExpertMask mask(size());
  for (const std::string& name : names) {
    if (const auto expert = Find(name); expert.has_value()) mask.Set(*expert);
  }
  return mask;
}

}  // namespace coterie
