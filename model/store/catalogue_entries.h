#ifndef COTERIE_MODEL_STORE_CATALOGUE_ENTRIES_H_
#define COTERIE_MODEL_STORE_CATALOGUE_ENTRIES_H_

#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/store/catalogue_entry.h"
#include "model/store/packed_entries.h"

namespace coterie {

// The experts of one generation in the order of their names, packed: a hundred thousand of them stay in a
// gateway's memory beside their prototypes. Reading one unpacks it (about a microsecond); its name alone is
// read where it stands. They stand in immutable blocks of some dozens, which generations share: a copy is a
// list of pointers, and a change makes one block anew. A value; const methods are thread-safe.
class CatalogueEntries {
 public:
  class Iterator;
  class Builder;

  CatalogueEntries() = default;
  // In this order, which must be that of their names where one is looked up or changed.
  CatalogueEntries(std::initializer_list<CatalogueEntry> entries)
      : CatalogueEntries(std::span(entries.begin(), entries.size())) {}
  explicit CatalogueEntries(std::span<const CatalogueEntry> entries);

  size_t size() const { return n_entries_; }
  bool empty() const { return n_entries_ == 0; }
  // The i-th; goes through the blocks before it.
  CatalogueEntry operator[](size_t i) const;

  Iterator begin() const;
  Iterator end() const;
  // The first whose name comes after `name`.
  Iterator UpperBound(std::string_view name) const;
  // Null when there is none of that name.
  std::shared_ptr<const CatalogueEntry> Find(std::string_view name) const;

  // In the place of the one with its name, or as a new one.
  void Put(CatalogueEntry entry);
  // False when there is none of that name.
  bool Erase(std::string_view name);

  // The same entries, in whatever blocks.
  bool operator==(const CatalogueEntries& other) const;

 private:
  using Block = std::shared_ptr<const store_internal::PackedEntries>;

  // The last block that begins at or before `name`, else the first.
  size_t BlockOf(std::string_view name) const;
  // These in place of blocks [begin, end).
  void Replace(size_t begin, size_t end, std::span<const CatalogueEntry> entries);

  std::vector<Block> blocks_;  // none empty
  size_t n_entries_ = 0;
};

// Reads from the first to the last.
class CatalogueEntries::Iterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = CatalogueEntry;
  using difference_type = std::ptrdiff_t;
  using pointer = void;
  using reference = CatalogueEntry;

  CatalogueEntry operator*() const { return block().Unpack(at_); }
  std::string_view name() const { return block().name(at_); }
  Iterator& operator++() {
    if (++at_ == block().size()) *this = Iterator(blocks_, block_ + 1, 0);
    return *this;
  }
  bool operator==(const Iterator& other) const = default;
  // Entries of this block from here on, when this is its first; else 0.
  size_t block_size() const { return at_ == 0 ? block().size() : 0; }
  void SkipBlock() { *this = Iterator(blocks_, block_ + 1, 0); }
  // The entry is the other's for certain: generations share it.
  bool IsShared(const Iterator& other) const {
    return at_ == other.at_ && (*blocks_)[block_] == (*other.blocks_)[other.block_];
  }

 private:
  friend class CatalogueEntries;

  Iterator(const std::vector<Block>* blocks, size_t block, size_t at)
      : blocks_(blocks), block_(block), at_(at) {}
  const store_internal::PackedEntries& block() const { return *(*blocks_)[block_]; }

  const std::vector<Block>* blocks_;
  size_t block_;
  size_t at_;  // in the block
};

// Entries that come one after the other in the order of their names, and blocks of an earlier generation that
// go on as they are.
class CatalogueEntries::Builder {
 public:
  size_t size() const { return n_entries_; }
  // Of the last one; empty: there is none.
  const std::string& last_name() const { return last_name_; }

  void Add(CatalogueEntry entry);
  // False while only a few stand between the last block and the next, which would make a small one.
  bool TakesBlocks() const;
  // Shares the block that begins at `first`.
  void AddBlock(const Iterator& first);

  CatalogueEntries Build();

 private:
  void Seal();

  CatalogueEntries done_;
  std::vector<CatalogueEntry> open_;  // in no block yet
  size_t n_entries_ = 0;
  std::string last_name_;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_STORE_CATALOGUE_ENTRIES_H_
