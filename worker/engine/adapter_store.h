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
#include "worker/engine/adapter_budget.h"
#include "worker/engine/adapter_entry.h"
#include "worker/engine/histogram.h"
#include "worker/engine/output_batch.h"

namespace coterie {

struct AdapterStoreOptions {
  int n_slots = 16;                    // adapters one step may choose from; at least 1
  size_t max_bytes = size_t{1} << 30;  // of packed adapters in memory, slots included; at least 1
  int n_loader_threads = 1;            // 1 to 16
};

struct AdapterStoreStats {
  std::atomic<uint64_t> hits{0};       // a sequence started and its adapters were in memory from the first
  std::atomic<uint64_t> misses{0};     // it had to wait for a load
  std::atomic<uint64_t> evictions{0};  // adapters evicted from memory
  std::atomic<uint64_t> failures{0};
  std::atomic<uint64_t> loads_from_packed{0};  // copied from a packed file
  std::atomic<uint64_t> loads_from_peft{0};    // read, checked and packed
  std::atomic<uint32_t> resident{0};           // in slots
  std::atomic<uint32_t> in_memory{0};
  std::atomic<uint64_t> bytes{0};
  Histogram load_seconds{Histogram::LoadBounds()};
  std::atomic<uint64_t> loaded_bytes{0};  // packed; of loads that went well, as load_nanos
  std::atomic<uint64_t> load_nanos{0};
};

// Adapters in three tiers: file (found by the resolver, read and packed by LanguageModel::LoadAdapter on
// loader threads) -> memory (bounded by bytes) -> slots (bounded by number; pinned while a sequence runs on
// them). A load never holds up anything but the sequences that asked for it. Who is given room, and from whom
// it is taken: AdapterBudget.
//
// Except for the constructor, destructor and stats(), everything is the engine's thread's: no call waits for
// a lock, reads a file or frees an adapter's memory. Memory exceeds max_bytes by what the loaders have in
// hand while sizes are still unknown, and no further.
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

  // A round asks for each waiting sequence's adapters, in the order in which sequences are to start.
  void BeginRound() { budget_.BeginRound(); }
  void EndRound() { EvictOverBudget(); }

  enum class State : uint8_t {
    kReady,     // promised, in memory, and there are slots: Pin will do
    kLoading,   // promised; loads have been asked for
    kNoMemory,  // promised to others, or no further load may start now
    kNoSlots,   // too many are pinned by others
    kFailed,    // `*error` says why
  };
  // Asks for a sequence's adapters, all or none, and has them loaded; its claim holds until Pin or Release.
  // With `may_claim` false, only what was promised before is looked after.
  State Prepare(std::span<AdapterEntry* const> entries, int priority, bool may_claim, AdapterClaim* claim,
                Status* error);
  // Into slots, after kReady; Unpin when done. Steps may use them once they are Uploaded.
  void Pin(std::span<AdapterEntry* const> entries, AdapterClaim* claim);
  bool Uploaded(std::span<AdapterEntry* const> entries) const;
  // Why one of them is not in its slot: the device has no memory for it.
  Status UploadError(std::span<AdapterEntry* const> entries) const;
  void Unpin(std::span<AdapterEntry* const> entries);
  void Release(std::span<AdapterEntry* const> entries, AdapterClaim* claim) {
    budget_.Release(entries, claim);
  }
  // A sequence that may start now has no room: it goes before claims of lower priority.
  void WithdrawFrom(int priority, AdapterClaim* claim) { budget_.WithdrawFrom(priority, claim); }

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
    size_t bytes = 0;  // packed, as far as it came to that
  };
  struct Job {
    AdapterEntry* entry = nullptr;
    Digest digest;
  };

  AdapterStore(const AdapterStoreOptions& options, LanguageModel* model, Resolver resolver,
               std::function<void()> wake);
  void LoaderThread();
  StatusOr<std::unique_ptr<LoadedAdapter>> Load(const Digest& digest, size_t* bytes);
  void StartLoad(AdapterEntry* entry);
  void Finish(Done done);
  void TakeSlot(AdapterEntry* entry);  // a free one
  bool FailedUpload(const AdapterEntry& entry) const;
  void LeaveSlot(AdapterEntry* entry);
  // From memory: what was promised to nobody, the longest unused first, down to max_bytes.
  void EvictOverBudget();
  void PublishSizes();
  void Forget(AdapterEntry* entry);

  const AdapterStoreOptions options_;
  LanguageModel* const model_;
  const Resolver resolver_;
  const std::function<void()> wake_;

  // Engine's thread only.
  absl::flat_hash_map<Digest, std::unique_ptr<AdapterEntry>> entries_;
  AdapterBudget budget_;
  std::vector<int> free_slots_;  // the lowest last
  std::vector<Job> to_start_;
  std::vector<Done> done_scratch_;
  std::vector<std::unique_ptr<LoadedAdapter>> to_free_;
  std::vector<ResidencyEvent> events_;
  int n_loading_ = 0;
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
