#include <nlohmann/json.hpp>

#include "model/store/catalogue.h"

namespace coterie {
namespace {

using Json = nlohmann::json;

constexpr int kFormat = 1;
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
    if (text.size() > kMaxTextBytes) Refuse(key, "a text of at most 4096 bytes");
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

ExpertVersion ReadVersion(const Json& object, const std::string& where) {
  const Fields fields(object, where);
  ExpertVersion version;
  version.adapter = fields.Hash("adapter");
  version.revision = fields.Hash("revision");
  version.version = fields.Text("version");
  version.adapter_bytes = fields.Unsigned("adapter_bytes");
  version.published_unix = fields.Signed("published_unix");
  if (fields.Has("base")) version.base = fields.Hash("base");
  if (fields.Has("withdrawn")) version.withdrawn = fields.Bool("withdrawn");
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
      fields.Refuse("tags", "a list of words of at most 64 bytes");
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

Json VersionToJson(const ExpertVersion& version) {
  Json object = {{"adapter", version.adapter.ToHex()},
                 {"revision", version.revision.ToHex()},
                 {"version", version.version},
                 {"adapter_bytes", version.adapter_bytes},
                 {"published_unix", version.published_unix}};
  if (version.base.has_value()) object["base"] = version.base->ToHex();
  if (version.withdrawn) object["withdrawn"] = true;
  return object;
}

Json EntryToJson(const CatalogueEntry& entry) {
  Json object = VersionToJson(entry.live);
  object["name"] = entry.name;
  object["description"] = entry.description;
  object["tags"] = entry.tags;
  object["licence"] = entry.licence;
  if (entry.min_score.has_value()) object["min_score"] = *entry.min_score;
  if (entry.routing.has_value()) {
    object["routing"] = {{"mean_score", entry.routing->mean_score},
                         {"std_score", entry.routing->std_score},
                         {"n", entry.routing->n}};
  }
  object["n_prototypes"] = entry.n_prototypes;
  if (entry.canary.has_value()) {
    object["canary"] = VersionToJson(entry.canary->version);
    object["canary"]["share"] = entry.canary->share;
  }
  object["history"] = Json::array();
  for (const ExpertVersion& version : entry.history) object["history"].push_back(VersionToJson(version));
  return object;
}

Status CheckOrder(const Catalogue& catalogue, std::string_view file) {
  for (size_t i = 1; i < catalogue.entries.size(); ++i) {
    if (catalogue.entries[i - 1].name >= catalogue.entries[i].name) {
      return absl::InvalidArgumentError(
          absl::StrCat(ToAbsl(file), ": experts ", catalogue.entries[i - 1].name, " and ",
                       catalogue.entries[i].name, " are not in the order of their names"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<Catalogue> ParseCatalogue(std::string_view json, std::string_view name,
                                   const CatalogueLimits& limits) {
  const auto file = ToAbsl(name);
  if (json.size() > limits.max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, " has ", json.size(), " bytes, the limit is ", limits.max_bytes));
  }
  try {
    Catalogue catalogue;
    bool in_experts = false;
    // Each expert is taken over as soon as it is complete and dropped from the tree (a false answer drops
    // it): a hundred thousand of them never stand in memory twice.
    const auto take = [&](int depth, Json::parse_event_t event, Json& value) {
      if (depth > kMaxDepth)
        throw BadField{absl::InvalidArgumentError(absl::StrCat(file, ": nested deeper than ", kMaxDepth))};
      if (depth == 1 && event == Json::parse_event_t::key) in_experts = value == "experts";
      if (!in_experts || depth != 2 || event != Json::parse_event_t::object_end) return true;
      if (catalogue.entries.size() >= limits.max_experts) {
        throw BadField{
            absl::InvalidArgumentError(absl::StrCat(file, ": more than ", limits.max_experts, " experts"))};
      }
      catalogue.entries.push_back(ReadEntry(value, name, catalogue.entries.size(), limits));
      return false;
    };
    const Json root = Json::parse(json.begin(), json.end(), take);
    const Fields fields(root, std::string(name));
    if (fields.Unsigned("format") != kFormat) {
      return absl::FailedPreconditionError(absl::StrCat(file, ": format ", fields.Unsigned("format"),
                                                        " is not the one this program reads, ", kFormat));
    }
    catalogue.generation = fields.Unsigned("generation");
    if (!fields.List("experts", limits.max_experts).empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ": field experts holds something that is no object"));
    }
    RETURN_IF_ERROR(CheckOrder(catalogue, name));
    return catalogue;
  } catch (const BadField& stop) {
    return stop.status;
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": ", error.what()));
  }
}

std::string SerializeCatalogue(const Catalogue& catalogue) {
  // One expert a line: a person can read it, and a comparison of two generations shows what changed.
  std::string text =
      absl::StrCat("{\"format\": ", kFormat, ", \"generation\": ", catalogue.generation, ", \"experts\": [");
  for (size_t i = 0; i < catalogue.entries.size(); ++i) {
    absl::StrAppend(&text, i == 0 ? "\n" : ",\n",
                    EntryToJson(catalogue.entries[i]).dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  return text + "\n]}\n";
}

}  // namespace coterie
