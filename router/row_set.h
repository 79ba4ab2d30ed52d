#ifndef COTERIE_ROUTER_ROW_SET_H_
#define COTERIE_ROUTER_ROW_SET_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace coterie::router_internal {

// The rows of a table that hold one thing. A gateway may know millions of cached prefixes, nearly all of them
// held by one worker: a single row stands in the set's own eight bytes, and only a second one makes it a bit
// per row. Not thread-safe.
class RowSet {
 public:
  RowSet() = default;
  RowSet(RowSet&& other) noexcept : value_(std::exchange(other.value_, 0)) {}
  RowSet& operator=(RowSet&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  ~RowSet() {
    if (Bits* bits = many()) delete bits;
  }

  // False when the row was there already.
  bool Insert(uint32_t row) {
    if (value_ == 0) {
      value_ = One(row);
      return true;
    }
    if (value_ == One(row)) return false;
    if (many() == nullptr) {
      auto* bits = new Bits();
      bits->Set(static_cast<uint32_t>(value_ >> 1));
      value_ = reinterpret_cast<uintptr_t>(bits);
    }
    return many()->Set(row);
  }
  // False when the row was not there.
  bool Erase(uint32_t row) {
    if (Bits* bits = many()) return bits->Clear(row);
    if (value_ != One(row)) return false;
    value_ = 0;
    return true;
  }
  bool Contains(uint32_t row) const {
    const Bits* bits = many();
    if (bits == nullptr) return value_ == One(row);
    return row / 64 < bits->words.size() && (bits->words[row / 64] >> (row % 64) & 1) != 0;
  }
  bool empty() const { return value_ == 0 || (many() != nullptr && many()->n == 0); }

  // The rows of `words` (a bit per row) that are in this set, too; the rest is cleared.
  void KeepOnly(std::span<uint64_t> words) const {
    const Bits* bits = many();
    if (bits != nullptr) {
      for (size_t w = 0; w < words.size(); ++w) words[w] &= w < bits->words.size() ? bits->words[w] : 0;
      return;
    }
    const auto row = static_cast<size_t>(value_ >> 1);
    for (size_t w = 0; w < words.size(); ++w) {
      words[w] &= value_ != 0 && w == row / 64 ? uint64_t{1} << (row % 64) : 0;
    }
  }

 private:
  struct Bits {
    std::vector<uint64_t> words;
    uint32_t n = 0;  // rows
    bool Set(uint32_t row) {
      if (row / 64 >= words.size()) words.resize(row / 64 + 1);
      const uint64_t bit = uint64_t{1} << (row % 64);
      if ((words[row / 64] & bit) != 0) return false;
      words[row / 64] |= bit;
      ++n;
      return true;
    }
    bool Clear(uint32_t row) {
      const uint64_t bit = uint64_t{1} << (row % 64);
      if (row / 64 >= words.size() || (words[row / 64] & bit) == 0) return false;
      words[row / 64] &= ~bit;
      --n;
      return true;
    }
  };
  static uint64_t One(uint32_t row) { return uint64_t{row} << 1 | 1; }
  Bits* many() const { return (value_ & 1) != 0 ? nullptr : reinterpret_cast<Bits*>(value_); }

  uint64_t value_ = 0;  // 0: no row; odd: row * 2 + 1; else a Bits*, which is aligned and so even
};

// From a thing to the rows that hold it.
template <class Key>
class RowIndex {
 public:
  void Insert(const Key& key, uint32_t row) { sets_[key].Insert(row); }
  void Erase(const Key& key, uint32_t row) {
    const auto found = sets_.find(key);
    if (found == sets_.end() || !found->second.Erase(row)) return;
    if (found->second.empty()) sets_.erase(found);
  }
  // Null when no row has it; valid until the next change.
  const RowSet* Find(const Key& key) const {
    const auto found = sets_.find(key);
    return found == sets_.end() ? nullptr : &found->second;
  }
  size_t size() const { return sets_.size(); }

 private:
  absl::flat_hash_map<Key, RowSet> sets_;
};

}  // namespace coterie::router_internal

#endif  // COTERIE_ROUTER_ROW_SET_H_
