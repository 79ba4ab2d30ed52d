#include "model/store/catalogue_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <functional>
#include <system_error>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/numbers.h"
#include "common/file.h"

namespace coterie {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kName = "catalogue.json";
// Longer than the coarsest time stamps in use (FAT and old NFS: 2 s).
constexpr absl::Duration kSettled = absl::Seconds(3);

constexpr std::string_view kAdvice =
    "put the file back (the last generations are kept in the store's folder generations), or write it anew "
    "from what is served with `coterie experts publish --restore-catalogue`";

int64_t Nanoseconds(const timespec& time) { return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec; }

}  // namespace

StatusOr<CatalogueFile::Identity> CatalogueFile::Identify() const {
  struct stat info;
  if (::stat(Path().c_str(), &info) != 0) {
    if (errno == ENOENT) return Identity();
    return ErrnoStatus(errno, "cannot stat", kName);
  }
  return Identity{.device = info.st_dev,
                  .inode = info.st_ino,
                  .mtime_ns = Nanoseconds(info.st_mtim),
                  .ctime_ns = Nanoseconds(info.st_ctim),
                  .n_bytes = info.st_size};
}

Status CatalogueFile::Refresh() {
  const StatusOr<Identity> identity = Identify();
  if (!identity.ok()) {
    read_ = false;
    return FallBack(CatalogueHealth::State::kDamaged, std::string(identity.status().message()));
  }
  if (read_ && settled_ && *identity == identity_) {
    return health_.lost() ? absl::DataLossError(health_.words) : absl::OkStatus();
  }
  return Read(*identity);
}

Status CatalogueFile::Read(const Identity& identity) {
  const bool same_file = std::exchange(read_, false) && identity == identity_;
  identity_ = identity;
  if (!same_file) since_ = MonotonicNow();
  settled_ = MonotonicNow() - since_ > kSettled;
  if (identity.n_bytes < 0) {
    const StatusOr<std::vector<uint64_t>> copies = Copies();
    if (!copies.ok()) {  // whatever the reason, this is not known to be a new store
      return FallBack(CatalogueHealth::State::kMissing,
                      absl::StrCat(ToAbsl(kName), " is missing, and ", copies.status().message()));
    }
    read_ = settled_ = true;  // until there is one
    // Nothing was ever published, or it was long ago and by a program that kept no copies.
    if (current_->generation == 0 && copies->empty()) {
      health_ = {};
      return absl::OkStatus();
    }
    return FallBack(CatalogueHealth::State::kMissing, absl::StrCat(ToAbsl(kName), " is missing"));
  }
  const StatusOr<std::string> text = ReadFile(Path(), limits_.max_bytes);
  if (!text.ok()) {
    // Not because of its content: it is tried again however little changes.
    return FallBack(CatalogueHealth::State::kDamaged,
                    absl::StrCat(ToAbsl(kName), " cannot be read: ", text.status().message()));
  }
  read_ = true;
  const size_t hash = absl::HashOf(*text);
  if (same_file && hash == text_hash_) {
    return health_.lost() ? absl::DataLossError(health_.words) : absl::OkStatus();
  }
  text_hash_ = hash;
  StatusOr<Catalogue> parsed = ParseCatalogue(*text, kName, limits_, current_.get());
  if (!parsed.ok()) {
    return FallBack(CatalogueHealth::State::kDamaged,
                    absl::StrCat("the catalogue is damaged: ", parsed.status().message()));
  }
  health_ = {};
  if (!parsed->damaged.empty()) {
    health_.state = CatalogueHealth::State::kExpertsDamaged;
    health_.n_damaged = parsed->damaged.size();
    health_.words =
        absl::StrCat(parsed->damaged.size(), " of ", parsed->entries.size() + parsed->damaged.size(),
                     " experts of ", ToAbsl(kName), " cannot be read (", parsed->damaged.front().why, ")");
    StatusOr<Catalogue> copy = ReadCopy(parsed->generation);
    if (copy.ok() && copy->damaged.size() < parsed->damaged.size()) {
      absl::StrAppend(&health_.words, "; the copy of generation ", copy->generation,
                      " is served, and the next publication mends the file");
      parsed = std::move(copy);
    } else {
      absl::StrAppend(&health_.words, "; they are passed over until they are published again or removed");
    }
  }
  Take(*std::move(parsed));
  return absl::OkStatus();
}

void CatalogueFile::Take(Catalogue catalogue) {
  // A smaller number is taken too (then the whole store was replaced), and the same one with another content.
  if (catalogue == *current_) return;
  current_ = std::make_shared<const Catalogue>(std::move(catalogue));
}

Status CatalogueFile::FallBack(CatalogueHealth::State state, const std::string& why) {
  std::string served = absl::StrCat("what was read before, generation ", current_->generation, " with ",
                                    current_->entries.size(), " experts, is served");
  for (const uint64_t generation : Copies().value_or(std::vector<uint64_t>())) {
    if (generation <= current_->generation) break;
    StatusOr<Catalogue> copy = ReadCopy(generation);
    if (!copy.ok()) continue;
    served = absl::StrCat("its copy of generation ", generation, " with ", copy->entries.size(),
                          " experts is served");
    Take(*std::move(copy));
    break;
  }
  if (current_->generation == 0) served = "no generation before it is known, so no expert is served";
  // Once it was said which copy is served, that stays the truth.
  if (health_.state != state || health_.words.rfind(why, 0) != 0) {
    health_ = {state, 0,
               absl::StrCat(why, "; ", served, " and nothing is published over it: ", ToAbsl(kAdvice))};
  }
  return absl::DataLossError(health_.words);
}

Status CatalogueFile::Write(Catalogue next, bool* in_doubt) {
  *in_doubt = false;
  const std::string text = SerializeCatalogue(next);
  if (text.size() > limits_.max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the catalogue of ", next.entries.size(), " experts would have ", text.size(),
                     " bytes, and nobody reads more than ", limits_.max_bytes, "; remove experts first"));
  }
  ASSIGN_OR_RETURN(const fs::path temporary, WriteTemporary(root_ / "staging", text));
  if (Status status = ReplaceFile(temporary, Path()); !status.ok()) {
    // Over a network a rename may have happened although its answer was lost.
    const StatusOr<std::string> there = ReadFile(Path(), limits_.max_bytes);
    *in_doubt = !there.ok();
    if (!there.ok() || *there != text) return status;
  }
  // From here on it is published, whatever else fails.
  const StatusOr<Identity> identity = Identify();
  read_ = identity.ok();
  if (read_) identity_ = *identity;
  since_ = MonotonicNow();
  settled_ = false;
  text_hash_ = absl::HashOf(text);
  health_ = {};
  const uint64_t generation = next.generation;
  if (!next.damaged.empty()) {
    health_ = {CatalogueHealth::State::kExpertsDamaged, next.damaged.size(),
               absl::StrCat(next.damaged.size(), " experts of ", ToAbsl(kName), " cannot be read (",
                            next.damaged.front().why,
                            "); they are passed over until they are published again or removed")};
  }
  current_ = std::make_shared<const Catalogue>(std::move(next));
  WriteCopy(generation, text);
  return absl::OkStatus();
}

fs::path CatalogueFile::CopyPath(uint64_t generation) const {
  return root_ / "generations" / absl::StrCat(generation, ".json");
}

StatusOr<std::vector<uint64_t>> CatalogueFile::Copies() const {
  std::vector<uint64_t> generations;
  const StatusOr<std::vector<fs::path>> files = ListFolder(root_ / "generations");
  if (absl::IsNotFound(files.status())) return generations;
  RETURN_IF_ERROR(files.status());
  for (const fs::path& file : *files) {
    uint64_t generation = 0;
    if (file.extension() == ".json" && absl::SimpleAtoi(file.stem().string(), &generation)) {
      generations.push_back(generation);
    }
  }
  std::sort(generations.begin(), generations.end(), std::greater<>());
  return generations;
}

StatusOr<Catalogue> CatalogueFile::ReadCopy(uint64_t generation) const {
  const std::string name = absl::StrCat("generations/", generation, ".json");
  ASSIGN_OR_RETURN(const std::string text, ReadFile(CopyPath(generation), limits_.max_bytes));
  ASSIGN_OR_RETURN(Catalogue copy, ParseCatalogue(text, name, limits_, current_.get()));
  if (copy.generation != generation) {
    return absl::InvalidArgumentError(absl::StrCat(name, " holds generation ", copy.generation));
  }
  return copy;
}

void CatalogueFile::KeepCopy() const {
  if (current_->generation == 0 || health_.state != CatalogueHealth::State::kGood ||
      ReadCopy(current_->generation).ok())
    return;
  WriteCopy(current_->generation, SerializeCatalogue(*current_));
}

// Not flushed to the disk: a copy is for a catalogue that is damaged later, and one that a power failure cut
// short is passed over. Nothing depends on it, so that no fault here fails a publication.
void CatalogueFile::WriteCopy(uint64_t generation, std::string_view text) const {
  const fs::path temporary = root_ / "staging" / "copy";  // the store's lock keeps others from this name
  std::error_code ignored;
  {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    file << text;
    file.close();
    if (!file) {
      fs::remove(temporary, ignored);
      return;
    }
  }
  fs::rename(temporary, CopyPath(generation), ignored);
  size_t n_kept = 0;
  for (const uint64_t copy : Copies().value_or(std::vector<uint64_t>())) {
    // Larger numbers are of a store that was replaced by an earlier one.
    if (copy > generation || ++n_kept > kCopies) fs::remove(CopyPath(copy), ignored);
  }
}

}  // namespace coterie
