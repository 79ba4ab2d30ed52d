#include "model/lora/packed_file.h"

#include <xxhash.h>

#include <cmath>
#include <cstring>
#include <utility>

#include "model/lora/module_resolver.h"

namespace coterie {
namespace {

constexpr char kMagic[8] = {'c', 'o', 't', 'p', 'a', 'c', 'k', '0' + kPackedFileVersion};
constexpr size_t kUnsummedBytes = 16;

// In the byte order of the machines we run on, which all put the lowest byte first.
struct Head {
  char magic[8];
  uint64_t checksum;
  uint8_t adapter[Digest::kBytes];
  uint8_t layout[Digest::kBytes];
  uint64_t n_pairs;
  uint64_t weight_bytes;
};
static_assert(sizeof(Head) == 96);

struct Pair {
  int32_t layer;
  int32_t rank;
  int32_t n_in;
  int32_t n_out;
  float scale;
  uint8_t module;
  uint8_t a_dtype;
  uint8_t b_dtype;
  uint8_t zero;
};
static_assert(sizeof(Pair) == 24);

size_t WeightsBegin(size_t n_pairs) { return (sizeof(Head) + n_pairs * sizeof(Pair) + 63) / 64 * 64; }

Status Damaged(std::string_view what) { return absl::DataLossError(ToAbsl(what)); }

bool IsLoraType(uint8_t dtype) { return dtype <= static_cast<uint8_t>(DType::kBF16); }

StatusOr<HostLora> FromPair(const Pair& pair, const ModelConfig& base, const LoraLimits& limits) {
  const auto refuse = [&](std::string_view what) {
    return Damaged(
        absl::StrCat("its pair of layer ", pair.layer, " and module ", pair.module, " ", ToAbsl(what)));
  };
  if (pair.layer < 0 || pair.layer >= base.n_layers || pair.module >= kLoraModuleCount) {
    return refuse("is of none that the base has");
  }
  const auto module = static_cast<LoraModule>(pair.module);
  if (!HasModule(base, module)) return refuse("is of none that the base has");
  const LoraModuleSize size = SizeOfModule(base, module);
  if (pair.n_in != size.n_in || pair.n_out != size.n_out)
    return refuse("is of another shape than the base's");
  if (pair.rank < 1 || pair.rank > limits.max_rank) return refuse(absl::StrCat("has rank ", pair.rank));
  if (!IsLoraType(pair.a_dtype) || !IsLoraType(pair.b_dtype) || !std::isfinite(pair.scale)) {
    return refuse("has a type or a scale that adapters do not have");
  }
  HostLora host;
  host.a.dtype = static_cast<DType>(pair.a_dtype);
  host.a.n_out = pair.rank;
  host.a.n_in = pair.n_in;
  host.b.dtype = static_cast<DType>(pair.b_dtype);
  host.b.n_out = pair.n_out;
  host.b.n_in = pair.rank;
  host.scale = pair.scale;
  host.layer = pair.layer;
  host.module = module;
  return host;
}

}  // namespace

Digest PackedLayout(std::string_view backend_layout, const Digest& base, const std::vector<bool>& quantised) {
  Hasher hasher;
  hasher.UpdateField("coterie packed adapter").UpdateU64(kPackedFileVersion).UpdateField(backend_layout);
  hasher.UpdateField(base.ToBytes()).UpdateU64(quantised.size());
  for (const bool module : quantised) hasher.UpdateU64(module);
  return hasher.Finish();
}

StatusOr<PackedFile> ParsePackedFile(std::span<const uint8_t> bytes, const PackedKey& key,
                                     const ModelConfig& base, const LoraLimits& limits) {
  Head head;
  if (bytes.size() < sizeof head) return Damaged(absl::StrCat("it ends after ", bytes.size(), " bytes"));
  std::memcpy(&head, bytes.data(), sizeof head);
  if (std::memcmp(head.magic, kMagic, sizeof kMagic) != 0) {
    return Damaged("it does not begin as such files of this version do");
  }
  if (Digest(std::to_array(head.adapter)) != key.adapter) return Damaged("it is of another adapter");
  if (Digest(std::to_array(head.layout)) != key.layout) return Damaged("it is of another layout");
  const auto most_pairs = static_cast<uint64_t>(base.n_layers) * kLoraModuleCount;
  if (head.n_pairs < 1 || head.n_pairs > most_pairs) {
    return Damaged(absl::StrCat("it has ", head.n_pairs, " pairs, the base has room for ", most_pairs));
  }
  const size_t begin = WeightsBegin(static_cast<size_t>(head.n_pairs));
  if (bytes.size() < begin || bytes.size() - begin != head.weight_bytes) {
    return Damaged(absl::StrCat("it has ", bytes.size(), " bytes; its head makes them ", begin, " and ",
                                head.weight_bytes));
  }
  if (XXH3_64bits(bytes.data() + kUnsummedBytes, bytes.size() - kUnsummedBytes) != head.checksum) {
    return Damaged("its checksum does not agree with its content");
  }
  PackedFile file;
  file.pairs.reserve(static_cast<size_t>(head.n_pairs));
  for (size_t i = 0; i < head.n_pairs; ++i) {
    Pair pair;
    std::memcpy(&pair, bytes.data() + sizeof head + i * sizeof pair, sizeof pair);
    ASSIGN_OR_RETURN(HostLora host, FromPair(pair, base, limits));
    if (!file.pairs.empty() &&
        std::pair(file.pairs.back().layer, file.pairs.back().module) >= std::pair(host.layer, host.module)) {
      return Damaged("its pairs are out of order");
    }
    file.pairs.push_back(std::move(host));
  }
  file.weights = bytes.subspan(begin);
  return file;
}

std::string PackedFileHead(const PackedKey& key, std::span<const HostLora> pairs,
                           std::span<const uint8_t> weights) {
  std::string out(WeightsBegin(pairs.size()), '\0');
  Head head = {};
  std::memcpy(head.magic, kMagic, sizeof kMagic);
  std::memcpy(head.adapter, key.adapter.bytes().data(), Digest::kBytes);
  std::memcpy(head.layout, key.layout.bytes().data(), Digest::kBytes);
  head.n_pairs = pairs.size();
  head.weight_bytes = weights.size();
  char* to = out.data() + sizeof head;
  for (const HostLora& host : pairs) {
    const Pair pair = {.layer = host.layer,
                       .rank = static_cast<int32_t>(host.a.n_out),
                       .n_in = static_cast<int32_t>(host.a.n_in),
                       .n_out = static_cast<int32_t>(host.b.n_out),
                       .scale = host.scale,
                       .module = static_cast<uint8_t>(host.module),
                       .a_dtype = static_cast<uint8_t>(host.a.dtype),
                       .b_dtype = static_cast<uint8_t>(host.b.dtype),
                       .zero = 0};
    std::memcpy(to, &pair, sizeof pair);
    to += sizeof pair;
  }
  std::memcpy(out.data(), &head, sizeof head);
  XXH3_state_t* state = XXH3_createState();
  XXH3_64bits_reset(state);
  XXH3_64bits_update(state, out.data() + kUnsummedBytes, out.size() - kUnsummedBytes);
  XXH3_64bits_update(state, weights.data(), weights.size());
  head.checksum = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  std::memcpy(out.data(), &head, sizeof head);
  return out;
}

}  // namespace coterie
