#ifndef COTERIE_ROUTER_EXPERT_INDEX_H_
#define COTERIE_ROUTER_EXPERT_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "common/status.h"
#include "router/quantized_rows.h"

namespace coterie {

// What routing needs to know about one expert; the gateway makes these from the expert store's catalogue.
struct IndexedExpert {
  std::string name;
  Digest adapter;
  std::vector<std::string> domains;  // declared domains and tags this expert claims in the rules matrix
  std::optional<float> min_score;    // this expert's own abstain threshold, instead of the policy's
  std::vector<float> prototypes;  // [n_prototypes, dim], unit norm; may be empty: found by name or rule only
};

// One expert of an index, which must outlive this.
struct KnownExpert {
  std::string_view name;
  const Digest& adapter;
  std::optional<float> min_score;
};

// Which experts of one index a caller may use: a bit per expert.
class ExpertMask {
 public:
  ExpertMask() = default;
  explicit ExpertMask(size_t n_experts) : n_(n_experts), bits_((n_experts + 63) / 64, 0) {}
  void Set(size_t expert) { bits_[expert / 64] |= uint64_t{1} << (expert % 64); }
  void Clear(size_t expert) { bits_[expert / 64] &= ~(uint64_t{1} << (expert % 64)); }
  bool Test(size_t expert) const { return bits_[expert / 64] >> (expert % 64) & 1; }
  size_t size() const { return n_; }

 private:
  size_t n_ = 0;
  std::vector<uint64_t> bits_;
};

// An immutable snapshot of all experts' prototypes with exact search (nearest prototype: MoIN,
// RouterRetriever). A change of the catalogue makes a new index, which shares with the one before all that
// did not change: it stands in segments of about a hundred experts, and a change costs those it falls into.
// Thread-safe; share it by shared_ptr. Experts are numbered in the order of their names, so that equal scores
// fall to the smaller name everywhere.
class ExpertIndex {
 public:
  struct Options {
    size_t dim = 384;              // of every embedding
    size_t max_experts = 100'000;  // more are refused
    // All prototypes together; 1 M x 384 floats are 1.5 GB.
    size_t max_prototypes = 1'000'000;
    uint64_t generation = 0;  // of the catalogue this was made from
  };
  struct Hit {
    uint32_t expert;
    float score;  // max over the expert's prototypes of the dot product with the query
  };
  // The order of a ranking: the higher score, then the smaller name.
  static bool Better(const Hit& a, const Hit& b) {
    return a.score != b.score ? a.score > b.score : a.expert < b.expert;
  }

  // InvalidArgument, naming the expert, when a name is malformed or twice there, a digest is empty,
  // prototypes are not a multiple of dim, not finite or not of unit norm (within 1e-3); ResourceExhausted
  // beyond the limits.
  static StatusOr<std::shared_ptr<const ExpertIndex>> Create(const Options& options,
                                                             std::vector<IndexedExpert> experts);
  // What Create refuses of one expert.
  static Status Check(const IndexedExpert& expert, size_t dim);

  // From one generation to another.
  struct Change {
    uint64_t generation = 0;
    std::vector<IndexedExpert> put;    // new ones, and those that take the place of one with the same name
    std::vector<std::string> removed;  // names; those that are not here are passed over
  };
  // The index after `change`; refusals as Create's.
  StatusOr<std::shared_ptr<const ExpertIndex>> With(Change change) const;

  // The at most k best experts, best first. `allowed` (of this index, or null for all) is applied before
  // ranking. InvalidArgument when the query has another dimension or a value that is not finite.
  StatusOr<std::vector<Hit>> Search(std::span<const float> query, size_t k, const ExpertMask* allowed) const;
  // An expert whose score lies in [lower, upper]; equal where it is known.
  struct Bounded {
    uint32_t expert;
    float lower, upper;
  };
  // As Search, and bounds of the scores of every other allowed expert that has prototypes, in the order of
  // names: what is known of them for the price of the search.
  StatusOr<std::vector<Hit>> SearchAndBound(std::span<const float> query, size_t k, const ExpertMask* allowed,
                                            std::vector<Bounded>* others) const;
  // Every allowed expert that has prototypes, in the order of names. Search gives the best of these.
  StatusOr<std::vector<Hit>> ScoreAll(std::span<const float> query, const ExpertMask* allowed) const;
  // The score of one expert, or nothing when it has no prototypes. The query must have passed CheckQuery.
  std::optional<float> Score(std::span<const float> query, size_t expert) const;
  // OK for a query of the right dimension with finite values.
  Status CheckQuery(std::span<const float> query) const;

  size_t size() const { return prototype_offsets_.size() - 1; }
  size_t n_prototypes() const { return prototype_offsets_.back(); }
  size_t dim() const { return options_.dim; }
  uint64_t generation() const { return options_.generation; }
  KnownExpert expert(size_t i) const;
  size_t n_prototypes_of(size_t expert) const {
    return prototype_offsets_[expert + 1] - prototype_offsets_[expert];
  }
  // One of them: [dim], of this index.
  std::span<const float> prototype(size_t expert, size_t i) const;
  std::optional<uint32_t> Find(std::string_view name) const;
  // Experts that declare `domain`, in the order of their names. Every segment is asked, in about a
  // hundredth of the time that a search takes.
  std::vector<uint32_t> WithDomain(std::string_view domain) const;

  // The experts among `names` that are here: n log(experts), so that a short list costs little.
  ExpertMask MaskOf(std::span<const std::string> names) const;

 private:
  // By name, as With goes through them; refuses what Create refuses.
  static Status SortAndCheck(size_t dim, Change* change);

  // Which experts of a segment declare which domains, each domain's text once.
  struct Claims {
    struct Claim {
      uint32_t text_begin, text_size;
      uint32_t expert;  // of the segment
    };
    std::string text;
    std::vector<Claim> claims;  // by domain, then expert
    std::string_view DomainOf(const Claim& claim) const {
      return std::string_view(text).substr(claim.text_begin, claim.text_size);
    }
  };
  // Experts side by side in the order of their names, with their rows: the only copy of them, and all that is
  // kept of an expert. Immutable; shared by generations.
  struct Segment {
    std::string names;                         // one after the other
    std::vector<uint32_t> name_offsets;        // [n_experts + 1], in names
    std::vector<Digest> adapters;              // [n_experts]
    std::vector<float> min_scores;             // [n_experts], NaN: none; empty where no expert has one
    std::vector<uint32_t> offsets;             // [n_experts + 1], in rows of this segment
    std::vector<float> rows;                   // [n_rows, stride], zero beyond dim
    router_internal::QuantizedRows quantized;  // of rows; empty where the machine has no use for it
    Claims claims;

    size_t n_experts() const { return adapters.size(); }
    std::string_view name(size_t i) const {
      return std::string_view(names).substr(name_offsets[i], name_offsets[i + 1] - name_offsets[i]);
    }
    std::optional<float> min_score(size_t i) const;
    // The first that does not come before `name`.
    size_t LowerBound(std::string_view name) const;
  };
  // An expert on its way into a segment; what is pointed at outlives that.
  struct Entry {
    std::string_view name;
    const Digest* adapter;
    std::optional<float> min_score;
    std::vector<std::string_view> domains;
    std::span<const float> rows;  // [n, row_floats]
    size_t row_floats;            // dim, or the stride of another segment
  };

  explicit ExpertIndex(const Options& options);
  static Entry EntryOf(const IndexedExpert& expert, size_t dim);
  // Of every expert of one of this index's segments.
  std::vector<Entry> EntriesOf(const Segment& segment) const;
  static Claims MakeClaims(std::span<const Entry> entries);
  // Where a segment of `entries` from `begin` on that is to end at about `end` fills its blocks of quantised
  // rows.
  static size_t FullBlocksEnd(std::span<const Entry> entries, size_t begin, size_t end);
  void AddSegments(std::span<const Entry> entries);
  std::shared_ptr<const Segment> MakeSegment(std::span<const Entry> entries) const;
  // Numbers experts and rows, once all segments are there.
  void Finish();
  size_t SegmentOf(size_t expert) const;
  std::vector<float> Padded(std::span<const float> query) const;
  // Max over the expert's rows; it has at least one.
  float ExactScore(const float* padded_query, size_t expert) const;
  // The experts that may be among the k best, with their exact scores, found by bounds first, and where
  // `others` is not null the bounds of the rest; nothing when a full scan is the better way.
  std::optional<std::vector<Hit>> Shortlist(const float* padded_query, size_t k, const ExpertMask* allowed,
                                            std::vector<Bounded>* others) const;

  Options options_;
  size_t stride_ = 0;  // floats from row to row: dim rounded up to a whole lane group
  std::vector<std::shared_ptr<const Segment>> segments_;  // by name, none empty
  std::vector<uint32_t> first_expert_;       // [n_segments + 1], the numbers of their first experts
  std::vector<uint32_t> prototype_offsets_;  // [n_experts + 1], in rows of all segments
};

}  // namespace coterie

#endif  // COTERIE_ROUTER_EXPERT_INDEX_H_
