#include "model/store/composite.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/member_weights.h"
#include "model/format/write_safetensors.h"
#include "model/store/staging.h"

namespace coterie {
namespace {

std::string FieldOfMember(size_t i) {
  return absl::StrCat(ToAbsl(kCardFile), ": field members[", i, "].expert");
}

uint64_t PartsOf(float weight) { return static_cast<uint64_t>(weight * kWeightParts); }

bool Differ(const std::optional<Digest>& a, const std::optional<Digest>& b) { return a && b && *a != *b; }

}  // namespace

StatusOr<std::vector<ExpertMember>> PinMembers(const ExpertCard& card, const Catalogue& catalogue,
                                               const Digest& base) {
  std::vector<ExpertMember> members;
  std::optional<Digest> wanted = card.base_digest;
  if (!wanted && !base.empty()) wanted = base;
  for (size_t i = 0; i < card.members.size(); ++i) {
    const CardMember& member = card.members[i];
    const auto found = catalogue.Resolve(member.expert);
    if (!found.ok()) return Annotate(found.status(), FieldOfMember(i));
    const ExpertVersion& version = *found->version;
    if (version.is_composite()) {
      return absl::InvalidArgumentError(absl::StrCat(
          FieldOfMember(i), " is ", ToString(member.expert), ", which is a ", ToAbsl(NameOf(version.mode)),
          " itself (", MembersInWords(version.members), "); name experts with adapters of their own"));
    }
    if (Differ(version.base, wanted)) {
      return absl::FailedPreconditionError(absl::StrCat(FieldOfMember(i), " is ", ToString(member.expert),
                                                        ", made for the base ", version.base->Short(),
                                                        "..., the others are for ", wanted->Short(), "..."));
    }
    if (!wanted) wanted = version.base;
    for (const ExpertMember& before : members) {
      if (before.adapter != version.adapter) continue;
      return absl::InvalidArgumentError(absl::StrCat(FieldOfMember(i), " is ", ToString(member.expert),
                                                     ", the same version (", version.adapter.Short(), ") as ",
                                                     before.name, "; give it one weight"));
    }
    members.push_back({found->entry->name, version.adapter, version.adapter_bytes, member.weight});
  }
  return members;
}

Digest CompositeDigest(CollaborationMode mode, std::span<const ExpertMember> members) {
  Hasher hasher;
  hasher.UpdateField("coterie/composite/1").UpdateField(NameOf(mode));
  for (const ExpertMember& member : members) {
    hasher.UpdateField(member.adapter.ToHex()).UpdateU64(PartsOf(member.weight));
  }
  return hasher.Finish();
}

std::string MembersInWords(std::span<const ExpertMember> members) {
  return absl::StrJoin(members, " + ", [](std::string* out, const ExpertMember& member) {
    absl::StrAppendFormat(out, "%.2f %s", member.weight, member.name);
  });
}

std::vector<std::string> ComposedOf(const Catalogue& catalogue, std::string_view name) {
  const auto has = [name](const ExpertVersion& version) {
    return std::any_of(version.members.begin(), version.members.end(),
                       [name](const ExpertMember& member) { return member.name == name; });
  };
  std::vector<std::string> names;
  for (const CatalogueEntry& entry : catalogue.entries) {
    if (has(entry.live) || (entry.canary.has_value() && has(entry.canary->version)))
      names.push_back(entry.name);
  }
  return names;
}

StatusOr<std::string> UniteIntoFile(std::span<const NamedPrototypes> members, const PrototypeLimits& limits) {
  const Prototypes& first = members.front().prototypes;
  const size_t share = std::max<size_t>(1, limits.max_prototypes / members.size());
  size_t n_all = 0;
  for (const NamedPrototypes& member : members) n_all += member.prototypes.n;
  std::vector<float> values;
  std::map<std::string, std::string> metadata = {{std::string(kUnitedPrototypes), "members"}};
  std::optional<Digest> embedder;
  for (const auto& [name, prototypes] : members) {
    if (prototypes.dim != first.dim || Differ(prototypes.embedder_digest, embedder)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "the prototypes of member ", name, " are of dimension ", prototypes.dim, " by the embedder ",
          prototypes.embedder_digest ? prototypes.embedder_digest->Short() : "that they do not name",
          ", those before of ", first.dim, " by ", embedder ? embedder->Short() : "one that they do not name",
          "; put prototypes.safetensors of its own into the folder"));
    }
    if (prototypes.embedder_digest) {
      embedder = prototypes.embedder_digest;
      metadata["embedder_digest"] = embedder->ToHex();
      if (!prototypes.embedder.empty()) metadata["embedder"] = prototypes.embedder;
    }
    const size_t n = n_all <= limits.max_prototypes ? prototypes.n : std::min(share, prototypes.n);
    for (size_t i = 0; i < n; ++i) {
      const auto row = prototypes.values.begin() + static_cast<ptrdiff_t>(i * prototypes.n / n * first.dim);
      values.insert(values.end(), row, row + static_cast<ptrdiff_t>(first.dim));
    }
  }
  TensorView tensor;
  tensor.name = "prototypes";
  tensor.shape = {static_cast<int64_t>(values.size() / first.dim), static_cast<int64_t>(first.dim)};
  tensor.bytes = {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)};
  return WriteSafetensors({tensor}, metadata);
}

}  // namespace coterie
