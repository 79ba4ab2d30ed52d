#ifndef COTERIE_MODEL_STORE_EXPERT_STORE_H_
#define COTERIE_MODEL_STORE_EXPERT_STORE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/digest.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "common/status.h"
#include "model/store/catalogue.h"
#include "model/store/catalogue_file.h"
#include "model/store/expert_card.h"
#include "model/store/prototypes.h"
#include "model/store/staging.h"

namespace coterie {

// Says whether the adapter in a folder (adapter_config.json, adapter_model.safetensors) may be served over
// our base, and gives its digest. What it refuses is not published; its message reaches the publisher.
using AdapterValidator =
    std::function<StatusOr<Digest>(const std::filesystem::path& adapter_folder, const ExpertCard& card)>;

struct ExpertStoreOptions {
  // Needed to publish; a store opened without it only reads.
  AdapterValidator validate_adapter;
  // Makes the folders when they are missing. Without it a missing root is NotFound (a volume that was not
  // mounted should not look like a store without experts).
  bool create = false;
  CatalogueLimits catalogue_limits;
  CardLimits card_limits;
  PrototypeLimits prototype_limits;
  StagingFolder::Limits file_limits;
  // The embedder's dimension: prototypes of another one are refused. 0: any.
  size_t prototype_dim = 0;
  // The embedder's digest: prototypes that say they are of another one are refused. Empty: any.
  Digest embedder;
  // The base that is served here: composite experts of members that say they are for another one are refused.
  // Empty: any.
  Digest base;
  // Uploads at the same time in this process; one more is ResourceExhausted.
  size_t max_uploads = 8;
  // Experts of one upload: what is known of each stays in memory until all are published.
  size_t max_upload_experts = 10'000;
  // How long a publisher waits for the others; holders keep the lock for milliseconds.
  absl::Duration lock_timeout = absl::Seconds(30);
  std::function<absl::Time()> now = absl::Now;
};

struct PublishResult {
  ExpertRef expert;
  uint64_t generation = 0;
  bool changed = false;  // false: exactly this was so already
  // Its files were there, damaged, and are whole again.
  bool repaired = false;
  std::string words;  // "published postgres 1.2.0 as 0123456789ab (generation 7)"
};

// The expert store: a directory, the only truth about which experts exist.
//
//   catalogue.json         one generation, replaced by an atomic rename
//   generations/<n>.json   copies of the last few: what is served when the catalogue is damaged or missing
//   objects/<adapter>/     adapter_config.json, adapter_model.safetensors: immutable
//   cards/<revision>/      expert.yaml, prototypes.safetensors: immutable
//   packed/                adapters as workers packed them (PackedFolder): may be emptied at any time
//   staging/               what is being published
//   unused/                when garbage collection first saw something unreferenced
//   lock                   held by whoever writes any of this
//
// Any number of processes may publish and read at the same time, also over a network file system that honours
// flock and atomic rename. A process that dies at any point leaves the previous generation valid; what it
// left lying about is removed by the next publisher. Objects are put in place before the catalogue that names
// them; folders that vanished are made again. Files of other names are nobody's business and stay.
// Thread-safe; reading a snapshot takes no file access.
//
// A catalogue that is damaged or has vanished stops nothing that is served, and no process from starting: the
// last generation goes on, or its copy (CatalogueFile). Changes are FailedPrecondition then, until the file
// is back or RestoreCatalogue is called: an empty catalogue written by mistake would forget every expert.
class ExpertStore {
 public:
  // Reads the catalogue. A root where nothing was ever published is an empty store, generation 0. That the
  // catalogue is damaged or missing is no error: see Health.
  static StatusOr<std::unique_ptr<ExpertStore>> Open(const std::filesystem::path& root,
                                                     ExpertStoreOptions options);

  // The generation last read; never null.
  std::shared_ptr<const Catalogue> Snapshot() const;
  // Reads the catalogue again if its file changed (one stat when it did not: made to be polled). True when
  // the snapshot is another one now. DataLoss when the catalogue is damaged or missing: the snapshot is then
  // the last good generation.
  StatusOr<bool> Refresh();
  // Of the catalogue as it was last read or written.
  CatalogueHealth Health() const;

  // The folder of an adapter, for live, historic and removed versions alike, as long as nothing collected it.
  StatusOr<std::filesystem::path> ObjectPath(const Digest& adapter) const;
  // expert.yaml as published, and the prototypes.
  StatusOr<std::string> ReadCard(const Digest& revision) const;
  StatusOr<Prototypes> ReadPrototypes(const Digest& revision) const;

  // Publishes the expert folder `folder`. Idempotent: what is live already changes nothing and says so,
  // except that files of it which the store has lost or damaged are put there again. Errors: what the card,
  // the prototypes or the validator refuse; NotFound for a missing file; ResourceExhausted naming the path
  // when the disk is full; FailedPrecondition while the catalogue is lost. On every error nothing is
  // published. With a share in (0, 1] it becomes the canary of an expert that is live, in place of the one
  // before, and everything else stays: NotFound for a name that is not live, FailedPrecondition when the
  // adapter is the live one's (there would be nothing to try).
  StatusOr<PublishResult> Publish(const std::filesystem::path& folder,
                                  std::optional<double> canary_share = std::nullopt);
  // Many at once, in one generation: each is published or refused on its own. One result per folder, in
  // order.
  std::vector<StatusOr<PublishResult>> PublishAll(std::span<const std::filesystem::path> folders);

 private:
  // An expert in staging that passed every check.
  struct Checked {
    std::unique_ptr<StagingFolder> staging;
    ExpertCard card;
    uint32_t n_prototypes = 0;
    std::optional<Digest> embedder;
    Digest adapter;
    Digest revision;
    std::optional<double> canary_share;
    std::vector<ExpertMember> members;  // of a composite expert; pinned under the store's lock
    uint64_t adapter_bytes = 0;
    // The live version that it was made from, which must still be it. Empty: none.
    Digest made_from;
  };

 public:
  // Experts that arrive in pieces, one after the other, and become one generation. Not thread-safe; must not
  // outlive the store. Dropping it drops what came.
  class Upload {
   public:
    ~Upload();
    // Begins the next expert; needed from the second one on. ResourceExhausted beyond the limit of experts.
    Status Next();
    // The present expert is to have this file, of so many bytes: what would be refused is, before it comes.
    Status Expect(std::string_view file, uint64_t n_bytes) const;
    // Appends to one of the four files of the present expert's folder.
    Status Write(std::string_view file, std::string_view chunk);
    // The present expert is whole: checks it, and says what is wrong with it. `expected_name` must be the
    // card's name, unless empty. The rest goes on without one that is refused.
    Status Finish(std::string_view expected_name, std::optional<double> canary_share = std::nullopt);
    // The present expert is refused for a reason of the caller's.
    void Refuse(Status why);
    // As PublishAll: one result for each expert, in order. Once only.
    std::vector<StatusOr<PublishResult>> CommitAll();
    // Finish and CommitAll for one expert.
    StatusOr<PublishResult> Commit(std::string_view expected_name,
                                   std::optional<double> canary_share = std::nullopt);

   private:
    friend class ExpertStore;
    explicit Upload(ExpertStore* store) : store_(store) {}
    ExpertStore* const store_;
    std::shared_ptr<StagingRoom> room_;
    std::unique_ptr<StagingFolder> staging_;  // of the present expert; null when it is done
    std::vector<StatusOr<Checked>> experts_;
    bool committed_ = false;
  };
  StatusOr<std::unique_ptr<Upload>> BeginUpload();

  // Publishes the live version of a composite expert with `with` in the place of `member`, as if its folder
  // were published with a card so changed: the other members stay in the versions that are pinned, weights
  // too; prototypes that were its members' become those of the new ones. NotFound for an expert, member or
  // version that is not there, FailedPrecondition for an expert with an adapter of its own, Aborted when
  // another version became live meanwhile.
  struct MemberSwap {
    std::string name;
    std::string member;
    std::string with;                    // a name, or name@digest
    std::string version;                 // of the card; empty: the live one's last number, one higher
    std::optional<double> canary_share;  // as in Publish
  };
  StatusOr<PublishResult> SwapMember(const MemberSwap& swap);

  // Takes a name out of the catalogue; its objects stay for the answers that still use them. NotFound if it
  // is not there; FailedPrecondition, naming them, while composite experts that are live or on trial have it
  // as a member. With `force` it goes all the same, and they go on with the version that they pinned. Returns
  // the new generation.
  StatusOr<uint64_t> Remove(std::string_view name, bool force = false);
  // Makes the canary of `name` live, with its card; the version that was live becomes history.
  // FailedPrecondition when there is no canary, or with a digest when it is not the canary's.
  StatusOr<PublishResult> Promote(std::string_view name, std::string_view digest_prefix = "");
  // With a digest: makes that version live again, with its card. Without: withdraws the canary if there is
  // one, else goes back to the newest version of the history that was not itself rolled back from
  // (FailedPrecondition when there is none). The version that was live stays in the history as withdrawn. A
  // canary that is withdrawn leaves the catalogue; its objects stay until they are collected. The result
  // names the version that is live now.
  StatusOr<PublishResult> RollBack(std::string_view name, std::string_view digest_prefix = "");

  // Writes what is served as the next generation where the catalogue is damaged or missing, so that changes
  // can go on; nothing where it is sound. Somebody must have decided that the file will not come back.
  Status RestoreCatalogue();

  struct GarbageReport {
    size_t n_removed = 0;
    size_t n_waiting = 0;  // unreferenced, but not for long enough
  };
  // Removes objects (with what was packed of them) and cards that no entry, live, canary or historic, has
  // named, for itself or as a member, for `grace` (counted from the first collection that saw them so). Never
  // runs by itself. `grace` must outlast every answer in flight and every poll. FailedPrecondition while
  // experts of the catalogue cannot be read: what they name is unknown.
  StatusOr<GarbageReport> CollectGarbage(absl::Duration grace);

  const std::filesystem::path& root() const { return root_; }

 private:
  // What a change begins with: the store's lock, and what is on the disk under it.
  struct Locked {
    std::unique_ptr<FileLock> lock;
    Catalogue catalogue;
  };

  ExpertStore(const std::filesystem::path& root, ExpertStoreOptions options);

  Status CheckWritable() const;
  // Makes the folders that are missing, if this store may.
  Status MakeFolders() const;
  StatusOr<std::unique_ptr<FileLock>> LockStore() const;
  // FailedPrecondition while the catalogue is lost.
  StatusOr<Locked> LockCatalogue();
  // The same to change what `name` means.
  StatusOr<Locked> LockToChange(std::string_view name);
  StatusOr<std::shared_ptr<StagingRoom>> NewRoom();
  StatusOr<Checked> Stage(const std::filesystem::path& folder, std::shared_ptr<StagingRoom> room) const;
  StatusOr<Checked> Check(std::unique_ptr<StagingFolder> staging) const;
  // The part of Check for a card with members: they are pinned later, those that are known by now are
  // checked.
  StatusOr<Checked> CheckComposite(Checked checked) const;
  // Under the store's lock: pins the members of a composite expert, and writes their prototypes where it
  // brings none.
  Status Compose(const Catalogue& catalogue, Checked* checked) const;
  // Reads what was staged as prototypes, and names the revision.
  Status CheckPrototypes(Checked* checked) const;
  // Under the store's lock: puts the objects in place and enters them into *next.
  StatusOr<PublishResult> Enter(const Checked& checked, Catalogue* next,
                                std::vector<std::filesystem::path>* placed) const;
  // Puts adapter and card of one expert in place. Sets *repaired when something of it was damaged or lost;
  // what is new is appended to *placed.
  Status Place(const Checked& checked, std::vector<std::filesystem::path>* placed, bool* repaired) const;
  Status EnterVersion(const ExpertCard& card, const ExpertVersion& version, uint32_t n_prototypes,
                      Catalogue* next, bool* changed) const;
  static Status EnterCanary(std::string_view name, CatalogueCanary canary, Catalogue* next, bool* changed);
  // Makes a version that was published before live in the next generation, and writes that.
  StatusOr<PublishResult> MakeLive(std::string_view name, ExpertVersion version, bool withdraw_live,
                                   std::string_view what_happened, Catalogue catalogue);
  StatusOr<PublishResult> WithdrawCanary(std::string_view name, Catalogue catalogue);
  // Flushes the files of the experts that are OK to the disk.
  Status FlushStaged(std::span<const StatusOr<Checked>> experts, size_t n_good) const;
  // One generation of all that are OK, one result for each.
  std::vector<StatusOr<PublishResult>> Commit(std::vector<StatusOr<Checked>> experts);
  // Under the store's lock: the next generation becomes the catalogue and the snapshot. *in_doubt: it failed,
  // and yet readers may see it.
  Status WriteCatalogue(Catalogue catalogue, bool* in_doubt = nullptr);
  void TakeSnapshot() ABSL_EXCLUSIVE_LOCKS_REQUIRED(refresh_mutex_);

  const std::filesystem::path root_;
  const ExpertStoreOptions options_;
  // Held from looking at the file to taking its content, so that a slow reader never puts an old generation
  // over a new one. Order: the store's lock, refresh_mutex_, mutex_.
  Mutex refresh_mutex_;
  CatalogueFile file_ ABSL_GUARDED_BY(refresh_mutex_);
  mutable Mutex mutex_;
  std::shared_ptr<const Catalogue> snapshot_ ABSL_GUARDED_BY(mutex_);
  CatalogueHealth health_ ABSL_GUARDED_BY(mutex_);
  size_t n_uploads_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_STORE_EXPERT_STORE_H_
