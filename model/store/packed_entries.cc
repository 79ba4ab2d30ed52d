#include "model/store/packed_entries.h"

#include <array>
#include <cstring>

#include "absl/container/flat_hash_map.h"
#include "common/check.h"

namespace coterie::store_internal {
namespace {

// What an entry or a version has beside what all have.
constexpr uint8_t kHasCanary = 1, kHasMinScore = 2, kHasRouting = 4;
constexpr uint8_t kHasBase = 1, kHasEmbedder = 2, kWithdrawn = 4, kHasMembers = 8;

std::string_view BytesOf(const Digest& digest) {
  return {reinterpret_cast<const char*>(digest.bytes().data()), Digest::kBytes};
}

Digest DigestOf(std::string_view bytes) {
  std::array<uint8_t, Digest::kBytes> digest;
  COTERIE_CHECK(bytes.size() == digest.size()) << "a packed digest has " << bytes.size() << " bytes";
  std::memcpy(digest.data(), bytes.data(), digest.size());
  return Digest(digest);
}

// Appends to the bytes of the entries, and collects the texts.
class Packer {
 public:
  Packer(std::string* bytes, std::string* texts, std::vector<uint32_t>* offsets)
      : bytes_(bytes), texts_(texts), offsets_(offsets) {
    offsets_->push_back(0);
  }

  void Entry(const CatalogueEntry& entry) {
    Number(entry.name.size());
    bytes_->append(entry.name);
    Raw<uint8_t>((entry.canary ? kHasCanary : 0) | (entry.min_score ? kHasMinScore : 0) |
                 (entry.routing ? kHasRouting : 0));
    Version(entry.live);
    if (entry.canary) {
      Version(entry.canary->version);
      Raw(entry.canary->share);
    }
    Text(entry.description);
    Number(entry.tags.size());
    for (const std::string& tag : entry.tags) Text(tag);
    Text(entry.licence);
    if (entry.min_score) Raw(*entry.min_score);
    if (entry.routing) {
      Raw(entry.routing->mean_score);
      Raw(entry.routing->std_score);
      Number(entry.routing->n);
    }
    Number(entry.n_prototypes);
    Number(entry.history.size());
    for (const ExpertVersion& version : entry.history) Version(version);
  }

 private:
  void Version(const ExpertVersion& version) {
    bytes_->append(BytesOf(version.adapter)).append(BytesOf(version.revision));
    Raw<uint8_t>((version.base ? kHasBase : 0) | (version.embedder ? kHasEmbedder : 0) |
                 (version.withdrawn ? kWithdrawn : 0) | (version.is_composite() ? kHasMembers : 0));
    Text(version.version);
    Number(version.adapter_bytes);
    Number(static_cast<uint64_t>(version.published_unix));
    if (version.base) Text(BytesOf(*version.base));
    if (version.embedder) Text(BytesOf(*version.embedder));
    if (!version.is_composite()) return;
    Raw(static_cast<uint8_t>(version.mode));
    Number(version.members.size());
    for (const ExpertMember& member : version.members) {
      Text(member.name);
      Text(BytesOf(member.adapter));
      Number(member.adapter_bytes);
      Raw(member.weight);
    }
  }

  template <typename T>
  void Raw(T value) {
    bytes_->append(reinterpret_cast<const char*>(&value), sizeof value);
  }

  // Seven bits a byte, the lowest first; the last byte has no top bit.
  void Number(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_->push_back(static_cast<char>(0x80 | (value & 0x7f)));
    bytes_->push_back(static_cast<char>(value));
  }

  // Its number among the texts.
  void Text(std::string_view text) {
    const auto [it, is_new] = numbers_.try_emplace(std::string(text), offsets_->size() - 1);
    if (is_new) {
      texts_->append(text);
      offsets_->push_back(static_cast<uint32_t>(texts_->size()));
    }
    Number(it->second);
  }

  std::string* const bytes_;
  std::string* const texts_;
  std::vector<uint32_t>* const offsets_;
  absl::flat_hash_map<std::string, size_t> numbers_;
};

// The way back.
class Unpacker {
 public:
  Unpacker(std::string_view bytes, std::string_view texts, std::span<const uint32_t> offsets)
      : bytes_(bytes), texts_(texts), offsets_(offsets) {}

  std::string_view Name() { return Bytes(Number()); }

  CatalogueEntry Entry() {
    CatalogueEntry entry;
    entry.name = Name();
    const auto has = Raw<uint8_t>();
    entry.live = Version();
    if (has & kHasCanary) {
      entry.canary = CatalogueCanary{.version = Version()};
      entry.canary->share = Raw<double>();
    }
    entry.description = Text();
    entry.tags.resize(Number());
    for (std::string& tag : entry.tags) tag = Text();
    entry.licence = Text();
    if (has & kHasMinScore) entry.min_score = Raw<float>();
    if (has & kHasRouting) {
      entry.routing.emplace();
      entry.routing->mean_score = Raw<double>();
      entry.routing->std_score = Raw<double>();
      entry.routing->n = Number();
    }
    entry.n_prototypes = static_cast<uint32_t>(Number());
    entry.history.resize(Number());
    for (ExpertVersion& version : entry.history) version = Version();
    return entry;
  }

 private:
  ExpertVersion Version() {
    ExpertVersion version;
    version.adapter = DigestOf(Bytes(Digest::kBytes));
    version.revision = DigestOf(Bytes(Digest::kBytes));
    const auto has = Raw<uint8_t>();
    version.version = Text();
    version.adapter_bytes = Number();
    version.published_unix = static_cast<int64_t>(Number());
    if (has & kHasBase) version.base = DigestOf(Text());
    if (has & kHasEmbedder) version.embedder = DigestOf(Text());
    version.withdrawn = has & kWithdrawn;
    if (has & kHasMembers) {
      version.mode = static_cast<CollaborationMode>(Raw<uint8_t>());
      version.members.resize(Number());
      for (ExpertMember& member : version.members) {
        member.name = Text();
        member.adapter = DigestOf(Text());
        member.adapter_bytes = Number();
        member.weight = Raw<float>();
      }
    }
    return version;
  }

  std::string_view Bytes(size_t n) {
    COTERIE_CHECK(n <= bytes_.size()) << "a packed entry ends early";
    const std::string_view front = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return front;
  }

  template <typename T>
  T Raw() {
    T value;
    std::memcpy(&value, Bytes(sizeof value).data(), sizeof value);
    return value;
  }

  uint64_t Number() {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = Raw<uint8_t>();
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
  }

  std::string_view Text() {
    const size_t number = Number();
    return texts_.substr(offsets_[number], offsets_[number + 1] - offsets_[number]);
  }

  std::string_view bytes_;
  const std::string_view texts_;
  const std::span<const uint32_t> offsets_;
};

}  // namespace

PackedEntries::PackedEntries(std::span<const CatalogueEntry> entries) {
  Packer packer(&bytes_, &texts_, &offsets_);
  begins_.reserve(entries.size());
  for (const CatalogueEntry& entry : entries) {
    begins_.push_back(static_cast<uint32_t>(bytes_.size()));
    packer.Entry(entry);
  }
  bytes_.shrink_to_fit();
  texts_.shrink_to_fit();
  offsets_.shrink_to_fit();
}

std::string_view PackedEntries::name(size_t i) const {
  return Unpacker(std::string_view(bytes_).substr(begins_[i]), texts_, offsets_).Name();
}

CatalogueEntry PackedEntries::Unpack(size_t i) const {
  return Unpacker(std::string_view(bytes_).substr(begins_[i]), texts_, offsets_).Entry();
}

}  // namespace coterie::store_internal
