#include "model/store/catalogue_entries.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace coterie {
namespace {

using store_internal::PackedEntries;

// A change unpacks and packs one block: some 0.1 ms. Larger ones would save a byte or two an entry.
constexpr size_t kMaxBlockEntries = 128;
constexpr size_t kNewBlockEntries = 64;
constexpr size_t kFewEntries = 16;

void AppendUnpacked(const PackedEntries& block, std::vector<CatalogueEntry>* entries) {
  for (size_t i = 0; i < block.size(); ++i) entries->push_back(block.Unpack(i));
}

// The first of `block` that does not come before `name`.
size_t LowerBound(const PackedEntries& block, std::string_view name) {
  size_t begin = 0, end = block.size();
  while (begin < end) {
    const size_t middle = (begin + end) / 2;
    if (block.name(middle) < name) {
      begin = middle + 1;
    } else {
      end = middle;
    }
  }
  return begin;
}

}  // namespace

CatalogueEntries::CatalogueEntries(std::span<const CatalogueEntry> entries) { Replace(0, 0, entries); }

CatalogueEntry CatalogueEntries::operator[](size_t i) const {
  size_t block = 0;
  for (; i >= blocks_[block]->size(); ++block) i -= blocks_[block]->size();
  return blocks_[block]->Unpack(i);
}

CatalogueEntries::Iterator CatalogueEntries::begin() const { return Iterator(&blocks_, 0, 0); }

CatalogueEntries::Iterator CatalogueEntries::end() const { return Iterator(&blocks_, blocks_.size(), 0); }

size_t CatalogueEntries::BlockOf(std::string_view name) const {
  const auto after =
      std::upper_bound(blocks_.begin(), blocks_.end(), name,
                       [](std::string_view wanted, const Block& block) { return wanted < block->name(0); });
  return after == blocks_.begin() ? 0 : static_cast<size_t>(after - blocks_.begin()) - 1;
}

CatalogueEntries::Iterator CatalogueEntries::UpperBound(std::string_view name) const {
  if (empty()) return end();
  const size_t block = BlockOf(name);
  size_t at = LowerBound(*blocks_[block], name);
  if (at < blocks_[block]->size() && blocks_[block]->name(at) == name) ++at;
  return at < blocks_[block]->size() ? Iterator(&blocks_, block, at) : Iterator(&blocks_, block + 1, 0);
}

std::shared_ptr<const CatalogueEntry> CatalogueEntries::Find(std::string_view name) const {
  if (empty()) return nullptr;
  const PackedEntries& block = *blocks_[BlockOf(name)];
  const size_t at = LowerBound(block, name);
  if (at == block.size() || block.name(at) != name) return nullptr;
  return std::make_shared<const CatalogueEntry>(block.Unpack(at));
}

void CatalogueEntries::Replace(size_t begin, size_t end, std::span<const CatalogueEntry> entries) {
  const size_t n_blocks =
      entries.size() <= kMaxBlockEntries ? 1 : (entries.size() + kNewBlockEntries - 1) / kNewBlockEntries;
  std::vector<Block> blocks;
  for (size_t i = 0; i < n_blocks && !entries.empty(); ++i) {
    const size_t first = entries.size() * i / n_blocks, last = entries.size() * (i + 1) / n_blocks;
    blocks.push_back(std::make_shared<const PackedEntries>(entries.subspan(first, last - first)));
  }
  for (size_t i = begin; i < end; ++i) n_entries_ -= blocks_[i]->size();
  n_entries_ += entries.size();
  const auto at = blocks_.erase(blocks_.begin() + static_cast<ptrdiff_t>(begin),
                                blocks_.begin() + static_cast<ptrdiff_t>(end));
  blocks_.insert(at, blocks.begin(), blocks.end());
}

void CatalogueEntries::Put(CatalogueEntry entry) {
  if (empty()) return Replace(0, 0, std::span(&entry, 1));
  const size_t block = BlockOf(entry.name);
  std::vector<CatalogueEntry> entries;
  AppendUnpacked(*blocks_[block], &entries);
  const size_t at = LowerBound(*blocks_[block], entry.name);
  if (at < entries.size() && entries[at].name == entry.name) {
    entries[at] = std::move(entry);
  } else {
    entries.insert(entries.begin() + static_cast<ptrdiff_t>(at), std::move(entry));
  }
  Replace(block, block + 1, entries);
}

bool CatalogueEntries::Erase(std::string_view name) {
  if (empty()) return false;
  const size_t block = BlockOf(name);
  const size_t at = LowerBound(*blocks_[block], name);
  if (at == blocks_[block]->size() || blocks_[block]->name(at) != name) return false;
  std::vector<CatalogueEntry> entries;
  AppendUnpacked(*blocks_[block], &entries);
  entries.erase(entries.begin() + static_cast<ptrdiff_t>(at));
  // A few that are left join the next block, so that no crumbs pile up.
  size_t end = block + 1;
  if (entries.size() < kFewEntries && end < blocks_.size()) AppendUnpacked(*blocks_[end++], &entries);
  Replace(block, end, entries);
  return true;
}

bool CatalogueEntries::operator==(const CatalogueEntries& other) const {
  if (size() != other.size()) return false;
  Iterator a = begin(), b = other.begin();
  while (a != end()) {
    // Most of two generations.
    if (a.block_size() > 0 && b.block_size() > 0 && a.IsShared(b)) {
      a.SkipBlock();
      b.SkipBlock();
      continue;
    }
    if (*a != *b) return false;
    ++a;
    ++b;
  }
  return true;
}

void CatalogueEntries::Builder::Add(CatalogueEntry entry) {
  last_name_ = entry.name;
  ++n_entries_;
  open_.push_back(std::move(entry));
  // Not as soon as they fill a block: one more than that would leave a single one before a block to be
  // shared, and so on to the end.
  if (open_.size() >= 2 * kMaxBlockEntries) Seal();
}

bool CatalogueEntries::Builder::TakesBlocks() const { return open_.empty() || open_.size() >= kFewEntries; }

void CatalogueEntries::Builder::AddBlock(const Iterator& first) {
  COTERIE_CHECK(first.block_size() > 0) << "not the first entry of a block";
  Seal();
  const Block& block = (*first.blocks_)[first.block_];
  done_.blocks_.push_back(block);
  done_.n_entries_ += block->size();
  n_entries_ += block->size();
  last_name_ = block->name(block->size() - 1);
}

void CatalogueEntries::Builder::Seal() {
  if (!open_.empty()) done_.Replace(done_.blocks_.size(), done_.blocks_.size(), open_);
  open_.clear();
}

CatalogueEntries CatalogueEntries::Builder::Build() {
  Seal();
  done_.blocks_.shrink_to_fit();
  last_name_.clear();
  n_entries_ = 0;
  return std::exchange(done_, CatalogueEntries());
}

}  // namespace coterie
