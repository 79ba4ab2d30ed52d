#ifndef COTERIE_WORKER_ENGINE_ADAPTER_STORE_H_
#define COTERIE_WORKER_ENGINE_ADAPTER_STORE_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "common/digest.h"
#include "common/mutex.h"
#include "common/status.h"
#include "model/decoder/language_model.h"
#include "worker/engine/histogram.h"
#include "worker/engine/request.h"

namespace coterie {

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
  int pins = 0;           // running sequences using its slot
  int refs = 0;           // sequences that name it
  uint64_t last_use = 0;  // round in which somebody last wanted or used it
  std::unique_ptr<LoadedAdapter> loaded;
  Status error;
};

struct AdapterStoreOptions {
  int n_slots = 16;                    // adapters one step may choose from; at least 1
  size_t max_bytes = size_t{1} << 30;  // of packed adapters in memory, slots included; at least 1
  int n_loader_threads = 1;            // 1 to 16
};

struct AdapterStoreStats {
  std::atomic<uint64_t> hits{0};       // a sequence started and its adapters were in memory from the first
  std::atomic<uint64_t> misses{0};     // it had to wait for a load
  std::atomic<uint64_t> evictions{0};  // adapters dropped from memory
  std::atomic<uint64_t> failures{0};
  std::atomic<uint32_t> resident{0};  // in slots
  std::atomic<uint32_t> in_memory{0};
  std::atomic<uint64_t> bytes{0};
  Histogram load_seconds{Histogram::LoadBounds()};
};

// Adapters in three tiers: file (found by the resolver, read and packed by LanguageModel::LoadAdapter on
// loader threads) -> memory (bounded by bytes, least recently used out first) -> slots (bounded by number;
// pinned while a sequence runs on them). A load never holds up anything but the sequences that asked for it.
//
// Except for the constructor, destructor and stats(), everything is the engine's thread's: no call waits for
// a lock, reads a file or frees an adapter's memory. Memory may exceed max_bytes by what the loaders have in
// hand (n_loader_threads adapters), since an adapter's size is known only once it is packed.
class AdapterStore {
 public:
  // Digest -> folder in PEFT format, or NotFound. Called on loader threads, several at once.
  using Resolver = std::function<StatusOr<std::filesystem::path>(const Digest&)>;

  // `model` is borrowed. `wake` is called on a loader thread when a load has finished.
  static StatusOr<std::unique_ptr<AdapterStore>> Create(const AdapterStoreOptions& options,
                                                        LanguageModel* model, Resolver resolver,
                                                        std::function<void()> wake);
  // Waits for loads under way.
  ~AdapterStore();

  // A reference to the entry of `digest`, kept until Unref.
  AdapterEntry* Ref(const Digest& digest);
  void Unref(AdapterEntry* entry);

  // A new round of TryPin: what is wanted in the same round is equally recent.
  void BeginRound() { ++round_; }

  enum class Pin {
    kPinned,   // all of them in slots; Unpin when done
    kLoading,  // loads have been asked for where there was room
    kNoRoom,   // too many slots are pinned by others, or no further load may start now
    kFailed,   // `*error` says why
  };
  // All or none.
  Pin TryPin(std::span<AdapterEntry* const> entries, Status* error);
  void Unpin(std::span<AdapterEntry* const> entries);
  // Starts the loads a sequence further back in the queue will need, while there is room.
  void Want(std::span<AdapterEntry* const> entries);

  // A request for it is on its way: loads it, and takes a slot if one is free.
  void Prefetch(const Digest& digest);

  // Takes in finished loads, whose number it returns, and hands queued ones to the loaders. Does nothing when
  // a loader holds the lock at that moment, unless `may_wait`.
  int Poll(bool may_wait);

  // Changes of slot residency since the last call, appended to `events`.
  void TakeEvents(std::vector<ResidencyEvent>* events);

  const AdapterStoreOptions& options() const { return options_; }
  AdapterStoreStats& stats() { return stats_; }

 private:
  struct Done {
    AdapterEntry* entry = nullptr;
    StatusOr<std::unique_ptr<LoadedAdapter>> result = absl::UnknownError("not loaded");
  };
  struct Job {
    AdapterEntry* entry = nullptr;
    Digest digest;
  };

  AdapterStore(const AdapterStoreOptions& options, LanguageModel* model, Resolver resolver,
               std::function<void()> wake);
  void LoaderThread();
  StatusOr<std::unique_ptr<LoadedAdapter>> Load(const Digest& digest);
  void StartLoad(AdapterEntry* entry);
  void Finish(Done done);
  bool MayStartLoad() const;
  bool PutInSlot(AdapterEntry* entry, std::span<AdapterEntry* const> keep);
  void LeaveSlot(AdapterEntry* entry);
  void Shrink(const AdapterEntry* keep);
  void Forget(AdapterEntry* entry);

  const AdapterStoreOptions options_;
  LanguageModel* const model_;
  const Resolver resolver_;
  const std::function<void()> wake_;

  // Engine's thread only.
  absl::flat_hash_map<Digest, std::unique_ptr<AdapterEntry>> entries_;
  std::vector<AdapterEntry*> slots_;  // [n_slots], null: free
  std::vector<Job> to_start_;
  std::vector<Done> done_scratch_;
  std::vector<std::unique_ptr<LoadedAdapter>> to_free_;
  std::vector<ResidencyEvent> events_;
  uint64_t round_ = 0;
  size_t bytes_ = 0;
  int n_loading_ = 0;
  int n_in_memory_ = 0;
  int n_pinned_ = 0;
  AdapterStoreStats stats_;

  Mutex mutex_;
  CondVar work_;
  std::deque<Job> jobs_ ABSL_GUARDED_BY(mutex_);
  std::vector<Done> done_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<LoadedAdapter>> trash_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> loaders_;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_ADAPTER_STORE_H_
