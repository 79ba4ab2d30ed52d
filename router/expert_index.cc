#include "router/expert_index.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "common/check.h"
#include "common/ids.h"
#include "kernels/dot_rows.h"

namespace coterie {
namespace {

using router_internal::QuantizedRows;

constexpr size_t kMinQuantizedRows = 512;
// Rows are padded with zeros to a multiple of so many floats: a cache line, and what QuantizedRows wants.
constexpr size_t kRowFloats = 16;

// A change copies and quantises the rows of the segments it falls into: about 1 ms for 128 experts of four
// prototypes. Smaller ones would cost the search more calls and half-filled blocks.
constexpr size_t kMaxSegmentExperts = 128;
constexpr size_t kNewSegmentExperts = 96;
constexpr size_t kMinSegmentExperts = 16;

constexpr float kNoMinScore = std::numeric_limits<float>::quiet_NaN();

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

ExpertIndex::ExpertIndex(const Options& options)
    : options_(options), stride_((options.dim + kRowFloats - 1) / kRowFloats * kRowFloats) {}

Status ExpertIndex::Check(const IndexedExpert& expert, size_t dim) {
  RETURN_IF_ERROR(ValidateExpertName(expert.name));
  if (expert.adapter.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("expert ", expert.name, " has no adapter digest"));
  }
  return CheckPrototypes(expert, dim);
}

StatusOr<std::shared_ptr<const ExpertIndex>> ExpertIndex::Create(const Options& options,
                                                                 std::vector<IndexedExpert> experts) {
  if (options.dim == 0 || options.dim > 65536) {
    return absl::InvalidArgumentError(absl::StrCat("index dimension ", options.dim, " is outside 1..65536"));
  }
  ExpertIndex nothing(options);
  nothing.Finish();
  return nothing.With({.generation = options.generation, .put = std::move(experts)});
}

Status ExpertIndex::SortAndCheck(size_t dim, Change* change) {
  const auto by_name = [](const IndexedExpert& a, const IndexedExpert& b) { return a.name < b.name; };
  std::sort(change->put.begin(), change->put.end(), by_name);
  std::sort(change->removed.begin(), change->removed.end());
  for (size_t i = 0; i < change->put.size(); ++i) {
    RETURN_IF_ERROR(Check(change->put[i], dim));
    if (i > 0 && change->put[i].name == change->put[i - 1].name) {
      return absl::InvalidArgumentError(
          absl::StrCat("expert ", change->put[i].name, " is in the index twice"));
    }
  }
  return absl::OkStatus();
}

StatusOr<std::shared_ptr<const ExpertIndex>> ExpertIndex::With(Change change) const {
  RETURN_IF_ERROR(SortAndCheck(dim(), &change));
  std::shared_ptr<ExpertIndex> next(new ExpertIndex(options_));
  next->options_.generation = change.generation;
  auto put = change.put.begin();
  auto removed = change.removed.begin();
  std::vector<Entry> entries;
  const auto take_put = [&] { entries.push_back(EntryOf(*put++, dim())); };
  for (size_t s = 0; s < segments_.size(); ++s) {
    const Segment& segment = *segments_[s];
    // What falls before the next segment falls into this one.
    const bool is_last = s + 1 == segments_.size();
    const std::string_view end = is_last ? "" : segments_[s + 1]->name(0);
    const auto is_here = [&](std::string_view name) { return is_last || name < end; };
    const bool put_here = put != change.put.end() && is_here(put->name);
    while (removed != change.removed.end() && *removed < segment.name(0)) ++removed;
    const bool changes = put_here || (removed != change.removed.end() && is_here(*removed));
    // A few experts that are left of other segments join this one, so that no crumbs pile up.
    if (!changes && (entries.empty() || entries.size() >= kMinSegmentExperts)) {
      next->AddSegments(entries);
      entries.clear();
      next->segments_.push_back(segments_[s]);
      continue;
    }
    for (Entry& expert : EntriesOf(segment)) {
      while (put != change.put.end() && put->name < expert.name) take_put();
      while (removed != change.removed.end() && *removed < expert.name) ++removed;
      const bool is_replaced = put != change.put.end() && put->name == expert.name;
      const bool is_removed = removed != change.removed.end() && *removed == expert.name;
      if (is_replaced) {
        take_put();
      } else if (!is_removed) {
        entries.push_back(std::move(expert));
      }
    }
    while (put != change.put.end() && is_here(put->name)) take_put();
    if (entries.size() >= kMinSegmentExperts) {
      next->AddSegments(entries);
      entries.clear();
    }
  }
  while (put != change.put.end()) take_put();
  next->AddSegments(entries);
  next->Finish();
  if (next->size() > options_.max_experts) {
    return absl::ResourceExhaustedError(
        absl::StrCat("index of ", next->size(), " experts, the limit is ", options_.max_experts));
  }
  if (next->n_prototypes() > options_.max_prototypes) {
    return absl::ResourceExhaustedError(absl::StrCat("index of ", next->n_prototypes(),
                                                     " prototypes, the limit is ", options_.max_prototypes));
  }
  return std::shared_ptr<const ExpertIndex>(std::move(next));
}

ExpertIndex::Entry ExpertIndex::EntryOf(const IndexedExpert& expert, size_t dim) {
  return {expert.name,       &expert.adapter,
          expert.min_score,  {expert.domains.begin(), expert.domains.end()},
          expert.prototypes, dim};
}

std::vector<ExpertIndex::Entry> ExpertIndex::EntriesOf(const Segment& segment) const {
  std::vector<Entry> entries;
  entries.reserve(segment.n_experts());
  const std::span<const float> rows(segment.rows);
  for (size_t i = 0; i < segment.n_experts(); ++i) {
    const size_t n_rows = segment.offsets[i + 1] - segment.offsets[i];
    entries.push_back({segment.name(i),
                       &segment.adapters[i],
                       segment.min_score(i),
                       {},
                       rows.subspan(segment.offsets[i] * stride_, n_rows * stride_),
                       stride_});
  }
  for (const Claims::Claim& claim : segment.claims.claims) {
    entries[claim.expert].domains.push_back(segment.claims.DomainOf(claim));
  }
  return entries;
}

ExpertIndex::Claims ExpertIndex::MakeClaims(std::span<const Entry> entries) {
  std::vector<std::pair<std::string_view, uint32_t>> sorted;
  for (uint32_t i = 0; i < entries.size(); ++i) {
    for (const std::string_view domain : entries[i].domains) sorted.emplace_back(domain, i);
  }
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  Claims claims;
  claims.claims.reserve(sorted.size());
  for (const auto& [domain, expert] : sorted) {
    const bool is_new = claims.claims.empty() || claims.DomainOf(claims.claims.back()) != domain;
    const auto begin = is_new ? static_cast<uint32_t>(claims.text.size()) : claims.claims.back().text_begin;
    if (is_new) claims.text += domain;
    claims.claims.push_back({begin, static_cast<uint32_t>(domain.size()), expert});
  }
  claims.text.shrink_to_fit();
  return claims;
}

size_t ExpertIndex::FullBlocksEnd(std::span<const Entry> entries, size_t begin, size_t end) {
  const auto n_rows = [&](size_t i) { return entries[i].rows.size() / entries[i].row_floats; };
  size_t rows = 0;
  for (size_t i = begin; i < end; ++i) rows += n_rows(i);
  size_t best = end, least_left = rows % QuantizedRows::kBlockRows;
  for (size_t i = end; i > begin + 1 && end - i < kMinSegmentExperts && least_left > 0; --i) {
    rows -= n_rows(i - 1);
    if (const size_t left = rows % QuantizedRows::kBlockRows; left < least_left) {
      best = i - 1;
      least_left = left;
    }
  }
  return best;
}

void ExpertIndex::AddSegments(std::span<const Entry> entries) {
  if (entries.empty()) return;
  // In parts of nearly the same size, with room for a few more experts in each.
  const size_t n_parts = entries.size() <= kMaxSegmentExperts
                             ? 1
                             : (entries.size() + kNewSegmentExperts - 1) / kNewSegmentExperts;
  size_t begin = 0;
  for (size_t part = 1; part <= n_parts; ++part) {
    const size_t end =
        part == n_parts ? entries.size() : FullBlocksEnd(entries, begin, entries.size() * part / n_parts);
    segments_.push_back(MakeSegment(entries.subspan(begin, end - begin)));
    begin = end;
  }
}

std::shared_ptr<const ExpertIndex::Segment> ExpertIndex::MakeSegment(std::span<const Entry> entries) const {
  auto segment = std::make_shared<Segment>();
  size_t n_rows = 0;
  for (const Entry& entry : entries) n_rows += entry.rows.size() / entry.row_floats;
  segment->rows.assign(n_rows * stride_, 0.0f);
  segment->name_offsets.reserve(entries.size() + 1);
  segment->name_offsets.push_back(0);
  segment->adapters.reserve(entries.size());
  if (std::any_of(entries.begin(), entries.end(), [](const Entry& e) { return e.min_score.has_value(); })) {
    segment->min_scores.reserve(entries.size());
    for (const Entry& entry : entries) segment->min_scores.push_back(entry.min_score.value_or(kNoMinScore));
  }
  segment->offsets.reserve(entries.size() + 1);
  segment->offsets.push_back(0);
  float* row = segment->rows.data();
  for (const Entry& entry : entries) {
    for (size_t begin = 0; begin < entry.rows.size(); begin += entry.row_floats, row += stride_) {
      std::copy_n(entry.rows.begin() + static_cast<ptrdiff_t>(begin), options_.dim, row);
    }
    segment->names += entry.name;
    segment->name_offsets.push_back(static_cast<uint32_t>(segment->names.size()));
    segment->adapters.push_back(*entry.adapter);
    segment->offsets.push_back(
        static_cast<uint32_t>((row - segment->rows.data()) / static_cast<ptrdiff_t>(stride_)));
  }
  segment->names.shrink_to_fit();
  segment->claims = MakeClaims(entries);
  if (QuantizedRows::Supported()) segment->quantized = QuantizedRows(segment->rows, stride_);
  return segment;
}

void ExpertIndex::Finish() {
  size_t n_experts = 0;
  for (const auto& segment : segments_) n_experts += segment->n_experts();
  first_expert_.reserve(segments_.size() + 1);
  prototype_offsets_.reserve(n_experts + 1);
  first_expert_.push_back(0);
  prototype_offsets_.push_back(0);
  for (const auto& segment : segments_) {
    const uint32_t first_row = prototype_offsets_.back();
    for (size_t i = 0; i < segment->n_experts(); ++i) {
      prototype_offsets_.push_back(first_row + segment->offsets[i + 1]);
    }
    first_expert_.push_back(static_cast<uint32_t>(prototype_offsets_.size() - 1));
  }
}

size_t ExpertIndex::SegmentOf(size_t expert) const {
  return static_cast<size_t>(std::upper_bound(first_expert_.begin(), first_expert_.end(), expert) -
                             first_expert_.begin()) -
         1;
}

KnownExpert ExpertIndex::expert(size_t i) const {
  const size_t s = SegmentOf(i);
  const Segment& segment = *segments_[s];
  i -= first_expert_[s];
  return {segment.name(i), segment.adapters[i], segment.min_score(i)};
}

std::span<const float> ExpertIndex::prototype(size_t expert, size_t i) const {
  const size_t s = SegmentOf(expert);
  const Segment& segment = *segments_[s];
  const size_t row = segment.offsets[expert - first_expert_[s]] + i;
  return std::span(segment.rows).subspan(row * stride_, options_.dim);
}

std::optional<float> ExpertIndex::Segment::min_score(size_t i) const {
  if (min_scores.empty() || std::isnan(min_scores[i])) return std::nullopt;
  return min_scores[i];
}

size_t ExpertIndex::Segment::LowerBound(std::string_view name) const {
  size_t begin = 0, end = n_experts();
  while (begin < end) {
    const size_t middle = (begin + end) / 2;
    if (this->name(middle) < name) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin;
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
  for (size_t s = 0; s < segments_.size(); ++s) {
    const Segment& segment = *segments_[s];
    const size_t n_experts = segment.n_experts();
    const auto is_allowed = [&](size_t i) {
      return allowed == nullptr || allowed->Test(first_expert_[s] + i);
    };
    // Experts stand side by side in rows: a run of allowed ones is one call.
    for (size_t first = 0; first < n_experts;) {
      if (!is_allowed(first)) {
        ++first;
        continue;
      }
      size_t last = first + 1;
      while (last < n_experts && is_allowed(last)) ++last;
      const size_t first_row = segment.offsets[first];
      const size_t n_rows = segment.offsets[last] - first_row;
      scores.resize(std::max(scores.size(), n_rows));
      DotRows(padded, segment.rows.data() + first_row * stride_, std::span(scores).first(n_rows));
      for (size_t e = first; e < last; ++e) {
        const float* begin = scores.data() + (segment.offsets[e] - first_row);
        const float* end = scores.data() + (segment.offsets[e + 1] - first_row);
        if (begin != end) {
          hits.push_back({static_cast<uint32_t>(first_expert_[s] + e), *std::max_element(begin, end)});
        }
      }
      first = last;
    }
  }
  return hits;
}

std::optional<std::vector<ExpertIndex::Hit>> ExpertIndex::Shortlist(const float* padded_query, size_t k,
                                                                    const ExpertMask* allowed,
                                                                    std::vector<Bounded>* others) const {
  const size_t n_rows = n_prototypes();
  // A small index stays in the cache, and its full scan takes less than the two passes would.
  if (n_rows < kMinQuantizedRows || !QuantizedRows::Supported()) return std::nullopt;
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
  const QuantizedRows::Query query = QuantizedRows::Prepare({padded_query, stride_});
  if (!query.near_unit_norm) return std::nullopt;
  std::vector<float> lower(n_rows), upper(n_rows);
  for (size_t s = 0; s < segments_.size(); ++s) {
    const size_t first_row = prototype_offsets_[first_expert_[s]];
    segments_[s]->quantized.Bounds(query, lower.data() + first_row, upper.data() + first_row);
  }

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
  const size_t s = SegmentOf(expert);
  const size_t i = expert - first_expert_[s];
  const Segment& segment = *segments_[s];
  std::vector<float> scores(segment.offsets[i + 1] - segment.offsets[i]);
  DotRows({padded_query, stride_}, segment.rows.data() + segment.offsets[i] * stride_, scores);
  return *std::max_element(scores.begin(), scores.end());
}

std::optional<float> ExpertIndex::Score(std::span<const float> query, size_t expert) const {
  if (prototype_offsets_[expert] == prototype_offsets_[expert + 1]) return std::nullopt;
  return ExactScore(Padded(query).data(), expert);
}

std::optional<uint32_t> ExpertIndex::Find(std::string_view name) const {
  // The last segment that begins at or before the name.
  const auto after =
      std::upper_bound(segments_.begin(), segments_.end(), name,
                       [](std::string_view wanted, const std::shared_ptr<const Segment>& segment) {
                         return wanted < segment->name(0);
                       });
  if (after == segments_.begin()) return std::nullopt;
  const auto s = static_cast<size_t>(after - segments_.begin()) - 1;
  const size_t i = segments_[s]->LowerBound(name);
  if (i == segments_[s]->n_experts() || segments_[s]->name(i) != name) return std::nullopt;
  return first_expert_[s] + static_cast<uint32_t>(i);
}

std::vector<uint32_t> ExpertIndex::WithDomain(std::string_view domain) const {
  std::vector<uint32_t> experts;
  for (size_t s = 0; s < segments_.size(); ++s) {
    const Claims& claims = segments_[s]->claims;
    auto it = std::lower_bound(
        claims.claims.begin(), claims.claims.end(), domain,
        [&](const Claims::Claim& claim, std::string_view wanted) { return claims.DomainOf(claim) < wanted; });
    for (; it != claims.claims.end() && claims.DomainOf(*it) == domain; ++it) {
      experts.push_back(first_expert_[s] + it->expert);
    }
  }
  return experts;
}

ExpertMask ExpertIndex::MaskOf(std::span<const std::string> names) const {
  ExpertMask mask(size());
  for (const std::string& name : names) {
    if (const auto expert = Find(name); expert.has_value()) mask.Set(*expert);
  }
  return mask;
}

}  // namespace coterie
