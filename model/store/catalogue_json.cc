#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>

#include "model/store/catalogue.h"
#include "model/store/catalogue_text.h"

namespace coterie {
namespace {

using Json = nlohmann::json;

constexpr int kMaxDepth = 8;
constexpr size_t kMaxTextBytes = 4096;  // of any one text; the card's own limits are stricter
constexpr size_t kMaxTags = 256;

// A problem inside one expert's object, thrown and caught in this file: nlohmann's callback has no other way
// out.
struct BadField {
  Status status;
};

// Typed access to the fields of one object; throws BadField.
class Fields {
 public:
  Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) throw BadField{absl::InvalidArgumentError(where_ + ": not an object")};
  }

  std::string Text(const char* key) const {
    const Json& value = Get(key);
    if (!value.is_string()) Refuse(key, "a text");
    const auto& text = value.get_ref<const std::string&>();
    if (text.size() > kMaxTextBytes) Refuse(key, absl::StrCat("a text of at most ", kMaxTextBytes, " bytes"));
    return text;
  }
  uint64_t Unsigned(const char* key) const {
    if (!Get(key).is_number_unsigned()) Refuse(key, "a number without sign");
    return Get(key).get<uint64_t>();
  }
  int64_t Signed(const char* key) const {
    if (!Get(key).is_number_integer()) Refuse(key, "a whole number");
    return Get(key).get<int64_t>();
  }
  Digest Hash(const char* key) const {
    auto digest = Digest::FromHex(Text(key));
    if (!digest.ok() || digest->empty()) Refuse(key, "64 lower-case hexadecimal digits");
    return *digest;
  }
  bool Bool(const char* key) const {
    if (!Get(key).is_boolean()) Refuse(key, "true or false");
    return Get(key).get<bool>();
  }
  double Number(const char* key) const {
    if (!Get(key).is_number()) Refuse(key, "a number");
    return Get(key).get<double>();
  }
  const Json& List(const char* key, size_t max_items) const {
    if (!Get(key).is_array()) Refuse(key, "a list");
    if (Get(key).size() > max_items) Refuse(key, absl::StrCat("a list of at most ", max_items));
    return Get(key);
  }
  bool Has(const char* key) const { return object_.contains(key); }
  const Json& Get(const char* key) const {
    const auto it = object_.find(key);
    if (it == object_.end())
      throw BadField{absl::InvalidArgumentError(absl::StrCat(where_, ": field ", key, " is missing"))};
    return *it;
  }
  [[noreturn]] void Refuse(const char* key, std::string_view want) const {
    throw BadField{
        absl::InvalidArgumentError(absl::StrCat(where_, ": field ", key, " is not ", ToAbsl(want)))};
  }

 private:
  const Json& object_;
  const std::string where_;
};

ExpertMember ReadMember(const Json& object, const std::string& where) {
  const Fields fields(object, where);
  ExpertMember member;
  member.name = fields.Text("name");
  if (!ValidateExpertName(member.name).ok()) fields.Refuse("name", "the name of an expert");
  member.adapter = fields.Hash("adapter");
  member.adapter_bytes = fields.Unsigned("adapter_bytes");
  member.weight = static_cast<float>(fields.Number("weight"));
  if (!(member.weight > 0 && member.weight < 1)) fields.Refuse("weight", "a number above 0 and below 1");
  return member;
}

void ReadMembers(const Fields& fields, const std::string& where, ExpertVersion* version) {
  const std::optional<CollaborationMode> mode = CollaborationModeOf(fields.Text("kind"));
  if (!mode) fields.Refuse("kind", "mixture or blend");
  version->mode = *mode;
  double sum = 0;
  for (const Json& member : fields.List("members", kMaxExpertMembers)) {
    version->members.push_back(ReadMember(member, where + " member"));
    sum += static_cast<double>(version->members.back().weight);
  }
  if (!(std::abs(sum - 1) <= 1e-6)) fields.Refuse("members", "a list of members whose weights sum to 1");
}

ExpertVersion ReadVersion(const Json& object, const std::string& where) {
  const Fields fields(object, where);
  ExpertVersion version;
  version.adapter = fields.Hash("adapter");
  version.revision = fields.Hash("revision");
  version.version = fields.Text("version");
  version.adapter_bytes = fields.Unsigned("adapter_bytes");
  version.published_unix = fields.Signed("published_unix");
  if (fields.Has("base")) version.base = fields.Hash("base");
  if (fields.Has("embedder")) version.embedder = fields.Hash("embedder");
  if (fields.Has("withdrawn")) version.withdrawn = fields.Bool("withdrawn");
  if (fields.Has("kind")) ReadMembers(fields, where, &version);
  return version;
}

CatalogueCanary ReadCanary(const Json& object, const std::string& where) {
  CatalogueCanary canary{.version = ReadVersion(object, where)};
  const Fields fields(object, where);
  canary.share = fields.Number("share");
  if (!ValidateCanaryShare(canary.share).ok()) fields.Refuse("share", "a number above 0 and at most 1");
  return canary;
}

RoutingReference ReadRouting(const Json& object, const std::string& where) {
  const Fields fields(object, where);
  RoutingReference reference{fields.Number("mean_score"), fields.Number("std_score"), fields.Unsigned("n")};
  if (!(reference.mean_score >= -1 && reference.mean_score <= 1)) {
    fields.Refuse("mean_score", "a number from -1 to 1");
  }
  if (!(reference.std_score >= 0 && reference.std_score <= 1)) {
    fields.Refuse("std_score", "a number from 0 to 1");
  }
  if (reference.n == 0) fields.Refuse("n", "at least 1");
  return reference;
}

CatalogueEntry ReadEntry(const Json& object, std::string_view file, size_t position,
                         const CatalogueLimits& limits) {
  const std::string place = absl::StrCat(ToAbsl(file), ": expert ", position);
  CatalogueEntry entry;
  entry.name = Fields(object, place).Text("name");
  if (const Status status = ValidateExpertName(entry.name); !status.ok())
    throw BadField{Annotate(status, place)};
  const std::string where = absl::StrCat(ToAbsl(file), ": expert ", entry.name);
  const Fields fields(object, where);
  entry.live = ReadVersion(object, where);
  entry.description = fields.Text("description");
  for (const Json& tag : fields.List("tags", kMaxTags)) {
    if (!tag.is_string() || tag.get_ref<const std::string&>().size() > kMaxExpertNameBytes) {
      fields.Refuse("tags", absl::StrCat("a list of words of at most ", kMaxExpertNameBytes, " bytes"));
    }
    entry.tags.push_back(tag.get<std::string>());
  }
  entry.licence = fields.Text("licence");
  if (fields.Has("min_score")) {
    const Json& value = fields.Get("min_score");
    if (!value.is_number() || !(value.get<double>() >= -1 && value.get<double>() <= 1)) {
      fields.Refuse("min_score", "a number from -1 to 1");
    }
    entry.min_score = value.get<float>();
  }
  if (fields.Has("routing")) entry.routing = ReadRouting(fields.Get("routing"), where + " routing");
  const uint64_t n_prototypes = fields.Unsigned("n_prototypes");
  if (n_prototypes > UINT32_MAX) fields.Refuse("n_prototypes", "below 2^32");
  entry.n_prototypes = static_cast<uint32_t>(n_prototypes);
  if (fields.Has("canary")) {
    entry.canary = ReadCanary(fields.Get("canary"), where + " canary");
    if (entry.canary->version.adapter == entry.live.adapter) {
      fields.Refuse("canary", "another adapter than the live one");
    }
  }
  for (const Json& version : fields.List("history", limits.max_history)) {
    entry.history.push_back(ReadVersion(version, where + " history"));
  }
  return entry;
}

Json ParseBounded(std::string_view text, std::string_view file, const Json::parser_callback_t& take) {
  return Json::parse(text.begin(), text.end(), [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > kMaxDepth) {
      throw BadField{
          absl::InvalidArgumentError(absl::StrCat(ToAbsl(file), ": nested deeper than ", kMaxDepth))};
    }
    return take(depth, event, value);
  });
}

// Collects the experts of one file: the good ones, and apart from them the bad ones with their reasons.
class Reader {
 public:
  Reader(std::string_view file, const CatalogueLimits& limits) : file_(file), limits_(limits) {}

  // The layout of SerializeCatalogue.
  void ReadLines(const store_internal::CatalogueLines& lines, const Catalogue* before) {
    out_.generation = lines.generation;
    const CatalogueEntries nothing;
    const CatalogueEntries& old = before == nullptr ? nothing : before->entries;
    auto known = old.begin();
    std::string known_text;  // of *known, once it was needed
    for (std::span<const std::string_view> left(lines.experts); !left.empty();) {
      if (known != old.end() && AddKnownBlock(known, left)) {
        left = left.subspan(known.block_size());
        known.SkipBlock();
        known_text.clear();
        continue;
      }
      const std::string_view line = left.front();
      left = left.subspan(1);
      if (known != old.end() && known_text.empty()) store_internal::AppendEntry(*known, &known_text);
      if (known != old.end() && line == known_text) {
        Add(*known);
        ++known;
        known_text.clear();
        continue;
      }
      ReadLine(line);
      // Both are in the order of names: what stands before this one has no line here.
      while (known != old.end() && known.name() <= last_name_) {
        ++known;
        known_text.clear();
      }
    }
  }

  // Any other layout. Each expert is taken over as soon as it is complete and dropped from the tree (a false
  // answer drops it): a hundred thousand of them never stand in memory twice.
  void ReadDocument(std::string_view json) {
    bool in_experts = false;
    const Json root = ParseBounded(json, file_, [&](int depth, Json::parse_event_t event, Json& value) {
      if (depth == 1 && event == Json::parse_event_t::key) in_experts = value == "experts";
      if (!in_experts || depth != 2 || event != Json::parse_event_t::object_end) return true;
      ReadObject(value);
      return false;
    });
    const Fields fields(root, file_);
    if (const uint64_t format = fields.Unsigned("format"); format != store_internal::kCatalogueFormat) {
      throw BadField{absl::FailedPreconditionError(absl::StrCat(file_, ": format ", format,
                                                                " is not the one this program reads, ",
                                                                store_internal::kCatalogueFormat))};
    }
    out_.generation = fields.Unsigned("generation");
    if (!fields.List("experts", limits_.max_experts).empty()) {
      throw BadField{absl::InvalidArgumentError(
          absl::StrCat(file_, ": field experts holds something that is no object"))};
    }
  }

  Catalogue Take() {
    if (unsorted_.empty()) {
      out_.entries = entries_.Build();
    } else {
      SortByName();
    }
    if (out_.entries.empty() && !out_.damaged.empty()) {
      std::string words = out_.damaged.front().why;
      if (out_.damaged.size() > 1) absl::StrAppend(&words, ", and so on: no expert of it can be read");
      throw BadField{absl::InvalidArgumentError(words)};
    }
    return std::move(out_);
  }

 private:
  // Whether the block of an earlier generation that begins at `known` stands in `lines` from the first one
  // on; shares it then.
  bool AddKnownBlock(const CatalogueEntries::Iterator& known, std::span<const std::string_view> lines) {
    const size_t n = known.block_size();
    if (n == 0 || n > lines.size() || !unsorted_.empty() || !entries_.TakesBlocks()) return false;
    if (!last_name_.empty() && known.name() <= last_name_) return false;
    auto entry = known;
    for (const std::string_view line : lines.first(n)) {
      block_text_.clear();
      store_internal::AppendEntry(*entry, &block_text_);
      if (line != block_text_) return false;
      ++entry;
    }
    CheckRoom(n);
    entries_.AddBlock(known);
    last_name_ = entries_.last_name();
    return true;
  }

  void ReadLine(std::string_view line) {
    Json object;
    std::string why;
    try {
      object = ParseBounded(line, file_, [](int, Json::parse_event_t, Json&) { return true; });
    } catch (const Json::parse_error& error) {
      why = absl::StrCat("not JSON at its byte ", error.byte);
    } catch (const Json::exception&) {
      why = "it holds a number that is too large";
    } catch (const BadField&) {
      why = absl::StrCat("nested deeper than ", kMaxDepth);
    }
    if (why.empty()) return ReadObject(object);
    const std::string name = store_internal::NameInLine(line);
    PassOver(name, store_internal::DamagedText(line),
             absl::StrCat(Place(), name.empty() ? "" : absl::StrCat(" (", name, ")"), ": ", why));
  }

  void ReadObject(const Json& object) {
    try {
      Add(ReadEntry(object, file_, n_seen(), limits_));
    } catch (const BadField& stop) {
      const auto name = object.find("name");
      PassOver(name != object.end() && name->is_string() ? name->get<std::string>().substr(0, 80) : "",
               object.dump(-1, ' ', false, Json::error_handler_t::replace),
               std::string(stop.status.message()));
    }
  }

  void Add(CatalogueEntry entry) {
    CheckRoom(1);
    // Written by hand, perhaps: sorted at the end.
    if (unsorted_.empty() && !last_name_.empty() && entry.name <= last_name_) {
      for (CatalogueEntry one : entries_.Build()) unsorted_.push_back(std::move(one));
    }
    last_name_ = entry.name;
    if (unsorted_.empty()) {
      entries_.Add(std::move(entry));
    } else {
      unsorted_.push_back(std::move(entry));
    }
  }

  void PassOver(std::string name, std::string text, std::string why) {
    CheckRoom(1);
    if (out_.damaged.size() >= limits_.max_damaged) {
      throw BadField{absl::InvalidArgumentError(
          absl::StrCat(why, "; ", out_.damaged.size(), " experts before it cannot be read either"))};
    }
    out_.damaged.push_back({std::move(name), std::move(text), std::move(why)});
  }

  void CheckRoom(size_t n) const {
    if (n_seen() + n <= limits_.max_experts) return;
    throw BadField{
        absl::InvalidArgumentError(absl::StrCat(file_, ": more than ", limits_.max_experts, " experts"))};
  }

  // Of two with one name the first counts.
  void SortByName() {
    std::stable_sort(unsorted_.begin(), unsorted_.end(),
                     [](const CatalogueEntry& a, const CatalogueEntry& b) { return a.name < b.name; });
    std::vector<CatalogueEntry> sorted = std::exchange(unsorted_, {});  // from here on nobody counts them
    for (CatalogueEntry& entry : sorted) {
      if (entries_.size() == 0 || entries_.last_name() != entry.name) {
        entries_.Add(std::move(entry));
        continue;
      }
      std::string text;
      store_internal::AppendEntry(entry, &text);
      PassOver(entry.name, std::move(text),
               absl::StrCat(file_, ": expert ", entry.name, " is there twice; the first one counts"));
    }
    out_.entries = entries_.Build();
  }

  size_t n_seen() const { return entries_.size() + unsorted_.size() + out_.damaged.size(); }
  std::string Place() const { return absl::StrCat(file_, ": expert ", n_seen()); }

  const std::string file_;
  const CatalogueLimits limits_;
  Catalogue out_;  // without its entries
  CatalogueEntries::Builder entries_;
  std::vector<CatalogueEntry> unsorted_;  // in place of entries_ once one stood before its place
  std::string last_name_;                 // of the last good one
  std::string block_text_;                // scratch
};

}  // namespace

StatusOr<Catalogue> ParseCatalogue(std::string_view json, std::string_view name,
                                   const CatalogueLimits& limits, const Catalogue* before) {
  if (json.size() > limits.max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(name), " has ", json.size(), " bytes, the limit is ", limits.max_bytes));
  }
  try {
    Reader reader(name, limits);
    if (const auto lines = store_internal::SplitCatalogue(json); lines.has_value()) {
      reader.ReadLines(*lines, before);
    } else {
      reader.ReadDocument(json);
    }
    return reader.Take();
  } catch (const BadField& stop) {
    return stop.status;
  } catch (const Json::parse_error& error) {
    // Its own words quote what it read, which may be anything.
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(name), ": not JSON at byte ", error.byte));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(name), ": ", error.what()));
  }
}

Status CheckReadable(const CatalogueEntry& entry, const CatalogueLimits& limits) {
  Catalogue alone;
  alone.entries.Put(entry);
  return ParseCatalogue(SerializeCatalogue(alone), "catalogue", limits).status();
}

}  // namespace coterie
