#ifndef COTERIE_WORKER_ENGINE_ADAPTER_ENTRY_H_
#define COTERIE_WORKER_ENGINE_ADAPTER_ENTRY_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "common/digest.h"
#include "common/status.h"
#include "model/decoder/language_model.h"

namespace coterie {

struct AdapterEntry;

// An entry's place in an EntryList.
struct EntryLink {
  AdapterEntry* before = nullptr;
  AdapterEntry* after = nullptr;
  class EntryList* list = nullptr;  // null: in none
};

// Where one adapter stands. Owned by the AdapterStore; others keep pointers between Ref and Unref.
struct AdapterEntry {
  enum class State : uint8_t {
    kAbsent,    // only in its file
    kLoading,   // with a loader, or queued for one
    kInMemory,  // packed; in a slot when slot >= 0
    kFailed,    // the load failed with `error`; forgotten with the last reference, so that a later request
                // tries anew
  };
  Digest digest;
  State state = State::kAbsent;
  int slot = -1;
  int pins = 0;              // running sequences using its slot
  int claims = 0;            // waiting sequences to which its room was promised
  int refs = 0;              // sequences that name it
  size_t bytes = 0;          // packed; 0 until it was loaded once
  size_t counted_bytes = 0;  // what the budget promised for it: `bytes`, or a guess
  size_t loading_bytes = 0;  // the same while it is being loaded
  std::unique_ptr<LoadedAdapter> loaded;
  Status error;
  EntryLink in_memory;  // among those that memory can be taken from
  EntryLink in_slot;    // among those that a slot can be taken from

  bool reserved() const { return pins > 0 || claims > 0; }
};

// Entries in the order in which they were last let go, the longest ago first. Allocates nothing: the links
// are the entries' own.
class EntryList {
 public:
  explicit EntryList(EntryLink AdapterEntry::*link) : link_(link) {}
  EntryList(const EntryList&) = delete;
  EntryList& operator=(const EntryList&) = delete;

  AdapterEntry* front() const { return first_; }
  void PushBack(AdapterEntry* entry) {
    EntryLink& link = entry->*link_;
    link = {last_, nullptr, this};
    (last_ != nullptr ? (last_->*link_).after : first_) = entry;
    last_ = entry;
  }
  // Takes it out of whatever list of this link it is in.
  static void Unlink(AdapterEntry* entry, EntryLink AdapterEntry::*at) {
    EntryLink& link = entry->*at;
    if (link.list == nullptr) return;
    EntryList& list = *link.list;
    (link.before != nullptr ? (link.before->*at).after : list.first_) = link.after;
    (link.after != nullptr ? (link.after->*at).before : list.last_) = link.before;
    link = {};
  }

 private:
  EntryLink AdapterEntry::*const link_;
  AdapterEntry* first_ = nullptr;
  AdapterEntry* last_ = nullptr;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_ADAPTER_ENTRY_H_
