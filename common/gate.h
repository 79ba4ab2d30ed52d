#ifndef COTERIE_COMMON_GATE_H_
#define COTERIE_COMMON_GATE_H_

#include <array>
#include <cstdint>
#include <string_view>

namespace coterie {

// Where the weights of a sequence's adapters come from if they differ from token to token and from module to
// module: y = W x + Σ g_i(x) · weight_i · scale_i · B_i A_i x. Every gate scores all adapters of the
// sequence; the `top_k` with the highest scores (of equal ones the earlier) are used, g = softmax of their
// scores. An adapter that lacks the module takes part with a product of zero. docs/several-experts.md has the
// formulas for users, docs/numerics.md their arithmetic.
enum class GateKind : uint8_t {
  kNone,      // weight_i alone
  kGateless,  // equal scores: g = 1 / n, of all n adapters
  kNoisy,     // random scores, as of a router that nobody has trained
  kArrow,     // |v_i · x|, v_i the top right singular vector of B_i A_i (Ostapenko et al. 2024)
};            // in the numbers of coterie.v1.GateKind
inline constexpr std::array kAllGates = {GateKind::kGateless, GateKind::kNoisy, GateKind::kArrow};

struct Gate {
  GateKind kind = GateKind::kNone;
  int32_t top_k = 0;  // 1 to the number of adapters; kGateless: all of them
  uint64_t seed = 0;  // kNoisy: with position, layer, module and adapter it gives the score; else 0

  bool operator==(const Gate&) const = default;
};

// Which kinds somebody has.
class GateSet {
 public:
  // Kinds that this version does not know are left out.
  void Add(GateKind kind) {
    if (kind <= kAllGates.back()) bits_ |= static_cast<uint8_t>(1 << static_cast<int>(kind));
  }
  bool Has(GateKind kind) const { return (bits_ >> static_cast<int>(kind) & 1) != 0; }

 private:
  uint8_t bits_ = 0;
};

// "gateless", "noisy", "arrow"; empty for kNone.
constexpr std::string_view NameOf(GateKind kind) {
  switch (kind) {
    case GateKind::kGateless:
      return "gateless";
    case GateKind::kNoisy:
      return "noisy";
    case GateKind::kArrow:
      return "arrow";
    case GateKind::kNone:
      break;
  }
  return "";
}

}  // namespace coterie

#endif  // COTERIE_COMMON_GATE_H_
