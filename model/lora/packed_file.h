#ifndef COTERIE_MODEL_LORA_PACKED_FILE_H_
#define COTERIE_MODEL_LORA_PACKED_FILE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/digest.h"
#include "common/status.h"
#include "kernels/lora.h"
#include "model/format/model_config.h"
#include "model/lora/peft_config.h"

namespace coterie {

// A packed file: an adapter as a backend packed it, so that a cold load is an mmap, a checksum and a copy.
//
//   [0]    magic, XXH3 of everything behind the first 16 bytes
//   [16]   SHA-256 of the adapter, SHA-256 of the layout, number of pairs, bytes of the weights
//   [96]   the pairs: layer, rank, n_in, n_out, scale, module, types of A and B
//   then   zeros up to a multiple of 64, and the weights: PackedAdapter::weights()
//
// Only an adapter that passed every check of LoraAdapter is written, and reading does not repeat those
// checks. So the layout names the base, and kPackedFileVersion must be raised when a check becomes stricter.
// The checksum finds damage, not malice: whoever can write into a store can publish there, too.
struct PackedKey {
  Digest adapter;
  Digest layout;
};

inline constexpr int kPackedFileVersion = 1;

// Names everything beside the adapter that decides the packed bytes: how the backend lays them out
// (DecoderOps::adapter_layout), the base that the adapter was checked against, and for which of its modules
// pairs are quantised ([n_layers · kLoraModuleCount], by layer and module).
Digest PackedLayout(std::string_view backend_layout, const Digest& base, const std::vector<bool>& quantised);

struct PackedFile {
  std::vector<HostLora> pairs;  // without data; ascending by layer and module
  std::span<const uint8_t> weights;
};

// The content of a packed file; borrows from `bytes`. DataLoss naming the fault when the file is cut off,
// damaged, of another key, or does not fit the base. Safe for any bytes, even if they change during the call.
StatusOr<PackedFile> ParsePackedFile(std::span<const uint8_t> bytes, const PackedKey& key,
                                     const ModelConfig& base, const LoraLimits& limits = {});

// The bytes of a packed file before its weights. The data of `pairs` is not read.
std::string PackedFileHead(const PackedKey& key, std::span<const HostLora> pairs,
                           std::span<const uint8_t> weights);

}  // namespace coterie

#endif  // COTERIE_MODEL_LORA_PACKED_FILE_H_
