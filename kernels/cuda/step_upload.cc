#include "kernels/cuda/step_upload.h"

#include <algorithm>
#include <cstring>

namespace coterie::cuda {
namespace {

size_t CountEntries(const StepPlan& plan) {
  size_t n = 0;
  for (const LoraGroup& group : plan.lora_groups()) n += group.rows.size();
  return n;
}

template <class T>
void CopyTo(uint8_t* to, std::span<const T> values) {
  if (!values.empty()) std::memcpy(to, values.data(), values.size_bytes());
}

}  // namespace

StepRoom RoomOf(const StepPlan& plan, size_t n_items) {
  const Batch& batch = plan.batch();
  const auto size = [](const auto& values) { return static_cast<int>(values.size()); };
  return {.tokens = batch.n_tokens(),
          .seqs = batch.n_seqs(),
          .logit_rows = size(batch.logit_rows),
          .lora_entries = static_cast<int>(CountEntries(plan)),
          .block_changes = size(batch.block_changes),
          .changed_blocks = size(batch.changed_blocks),
          .items = static_cast<int>(n_items)};
}

template <class T>
size_t StepLayout::Place(int n) {
  const size_t at = end_;
  end_ = (at + static_cast<size_t>(n) * sizeof(T) + 15) / 16 * 16;
  return at;
}

StepLayout::StepLayout(const StepRoom& room) : room_(room) {
  header_ = Place<Header>(1);
  token_ids_ = Place<int32_t>(room.tokens);
  positions_ = Place<int32_t>(room.tokens);
  sequences_ = Place<int32_t>(room.tokens);
  cu_seqlens_ = Place<int32_t>(room.seqs + 1);
  seats_ = Place<int32_t>(room.seqs);
  logit_rows_ = Place<int32_t>(room.logit_rows);
  tiles_ = Place<LoraTile>(room.lora_entries);
  lora_rows_ = Place<int32_t>(room.lora_entries);
  lora_weights_ = Place<float>(room.lora_entries);
  changes_ = Place<BlocksChange>(room.block_changes);
  changed_blocks_ = Place<int32_t>(room.changed_blocks);
  items_ = Place<AttentionItem>(room.items);
}

bool StepLayout::Holds(const StepPlan& plan, size_t n_items) const {
  const StepRoom step = RoomOf(plan, n_items);
  return step.tokens <= room_.tokens && step.seqs <= room_.seqs && step.logit_rows <= room_.logit_rows &&
         step.lora_entries <= room_.lora_entries && step.block_changes <= room_.block_changes &&
         step.changed_blocks <= room_.changed_blocks && step.items <= room_.items;
}

size_t StepLayout::Write(const StepPlan& plan, std::span<const AttentionItem> items, uint8_t* host) const {
  const Batch& batch = plan.batch();
  Header header = {batch.n_tokens(), static_cast<int32_t>(batch.logit_rows.size()), 0,
                   static_cast<int32_t>(items.size()), static_cast<int32_t>(batch.block_changes.size())};
  CopyTo<int32_t>(host + token_ids_, batch.token_ids);
  CopyTo<int32_t>(host + positions_, batch.positions);
  CopyTo<int32_t>(host + cu_seqlens_, batch.cu_seqlens);
  CopyTo<int32_t>(host + seats_, batch.seats);
  CopyTo<int32_t>(host + logit_rows_, batch.logit_rows);
  CopyTo<BlocksChange>(host + changes_, batch.block_changes);
  CopyTo<int32_t>(host + changed_blocks_, batch.changed_blocks);
  CopyTo<AttentionItem>(host + items_, items);
  auto* const sequences = reinterpret_cast<int32_t*>(host + sequences_);
  for (int32_t s = 0; s < batch.n_seqs(); ++s) {
    std::fill(sequences + batch.cu_seqlens[s], sequences + batch.cu_seqlens[s + 1], s);
  }
  auto* const tiles = reinterpret_cast<LoraTile*>(host + tiles_);
  auto* const rows = reinterpret_cast<int32_t*>(host + lora_rows_);
  auto* const weights = reinterpret_cast<float*>(host + lora_weights_);
  int32_t entry = 0;
  for (const LoraGroup& group : plan.lora_groups()) {
    for (size_t i = 0; i < group.rows.size(); i += kLoraTileRows) {
      const auto n = static_cast<int32_t>(std::min<size_t>(kLoraTileRows, group.rows.size() - i));
      tiles[header.n_tiles++] = {group.slot, entry, n};
      for (int32_t k = 0; k < n; ++k, ++entry) {
        rows[entry] = group.rows[i + static_cast<size_t>(k)];
        weights[entry] = group.weights[i + static_cast<size_t>(k)];
      }
    }
  }
  std::memcpy(host + header_, &header, sizeof(header));
  return items_ + items.size_bytes();
}

StepData StepLayout::DataAt(const uint8_t* device) const {
  const auto at = [&]<class T>(size_t offset, const T*) {
    return reinterpret_cast<const T*>(device + offset);
  };
  const auto ints = [&](size_t offset) { return at(offset, static_cast<const int32_t*>(nullptr)); };
  const auto* header = reinterpret_cast<const Header*>(device + header_);
  StepData data;
  data.n_tokens = &header->n_tokens;
  data.n_logit_rows = &header->n_logit_rows;
  data.n_items = &header->n_items;
  data.token_ids = ints(token_ids_);
  data.positions = ints(positions_);
  data.sequences = ints(sequences_);
  data.cu_seqlens = ints(cu_seqlens_);
  data.seats = ints(seats_);
  data.logit_rows = ints(logit_rows_);
  data.items = at(items_, static_cast<const AttentionItem*>(nullptr));
  data.lora.n_tiles = &header->n_tiles;
  data.lora.tiles = at(tiles_, static_cast<const LoraTile*>(nullptr));
  data.lora.rows = ints(lora_rows_);
  data.lora.weights = at(lora_weights_, static_cast<const float*>(nullptr));
  data.lora.max_tiles = room_.lora_entries;
  data.lora.max_entries = room_.lora_entries;
  return data;
}

StepBlocks StepLayout::BlocksAt(const uint8_t* device) const {
  return {&reinterpret_cast<const Header*>(device + header_)->n_changes,
          reinterpret_cast<const BlocksChange*>(device + changes_),
          reinterpret_cast<const int32_t*>(device + changed_blocks_)};
}

}  // namespace coterie::cuda
