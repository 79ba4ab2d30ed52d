#ifndef COTERIE_MODEL_STORE_CATALOGUE_FILE_H_
#define COTERIE_MODEL_STORE_CATALOGUE_FILE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "common/clock.h"
#include "common/status.h"
#include "model/store/catalogue.h"

namespace coterie {

// What is known of a store's catalogue.json.
struct CatalogueHealth {
  enum class State {
    kGood,
    kExpertsDamaged,  // a few of its experts cannot be read; the rest is served, and may be changed
    kDamaged,         // it cannot be read: an earlier generation is served, nothing is written over it
    kMissing,         // it was there and is gone: the same
  };
  State state = State::kGood;
  size_t n_damaged = 0;  // experts of the file that cannot be read
  std::string words;     // for a person; empty when all is well

  // Whether something else than the file is served.
  bool lost() const { return state == State::kDamaged || state == State::kMissing; }
  bool operator==(const CatalogueHealth&) const = default;
};

// A store's catalogue.json and the copies of its last generations, generations/<n>.json. Copies are files of
// their own: what damages the catalogue in place leaves them alone. When the catalogue is damaged or missing,
// what was read last goes on being served, or the newest copy that can be read. Not thread-safe; writers hold
// the store's lock.
class CatalogueFile {
 public:
  static constexpr size_t kCopies = 4;

  CatalogueFile(std::filesystem::path root, const CatalogueLimits& limits)
      : root_(std::move(root)), limits_(limits) {}

  // The generation to serve; never null. Another pointer whenever the content is another one.
  const std::shared_ptr<const Catalogue>& current() const { return current_; }
  const CatalogueHealth& health() const { return health_; }

  // Looks at the file (one stat when it did not change: made to be polled). DataLoss when it is damaged or
  // missing, with the words of health(); current() may have become a copy then.
  Status Refresh();
  // Makes `next` the catalogue, and keeps a copy. ResourceExhausted when it is larger than readers take. On
  // an error the old one stays, except where *in_doubt was set: then nobody knows.
  Status Write(Catalogue next, bool* in_doubt);
  // A copy of the current generation, unless there is one (a store of an older program has none).
  void KeepCopy() const;

 private:
  struct Identity {
    uint64_t device = 0;
    uint64_t inode = 0;
    int64_t mtime_ns = 0;
    int64_t ctime_ns = 0;
    int64_t n_bytes = -1;  // -1: there is no file
    bool operator==(const Identity&) const = default;
  };

  std::filesystem::path Path() const { return root_ / "catalogue.json"; }
  std::filesystem::path CopyPath(uint64_t generation) const;
  StatusOr<std::vector<uint64_t>> Copies() const;  // newest first
  StatusOr<Catalogue> ReadCopy(uint64_t generation) const;
  void WriteCopy(uint64_t generation, std::string_view text) const;

  StatusOr<Identity> Identify() const;
  // The file is `identity` and was not read since it became that.
  Status Read(const Identity& identity);
  void Take(Catalogue catalogue);
  // Serves the newest there is, and says why.
  Status FallBack(CatalogueHealth::State state, const std::string& why);

  const std::filesystem::path root_;
  const CatalogueLimits limits_;
  std::shared_ptr<const Catalogue> current_ = std::make_shared<const Catalogue>();
  CatalogueHealth health_;
  bool read_ = false;  // identity_ and text_hash_ are of what was read last
  Identity identity_;
  size_t text_hash_ = 0;
  MonotonicTime since_;  // when identity_ was first seen
  // identity_ was already some time old when the file was read. Time stamps are coarse: a change right after
  // reading could leave them as they were.
  bool settled_ = false;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_STORE_CATALOGUE_FILE_H_
