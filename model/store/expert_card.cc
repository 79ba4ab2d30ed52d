#include "model/store/expert_card.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "common/ids.h"
#include "common/member_weights.h"
#include "common/nearest.h"
#include "common/quoted.h"
#include "model/store/catalogue_entry.h"
#include "model/store/yaml_tree.h"

namespace coterie {
namespace {

constexpr std::string_view kFields[] = {
    "name",    "version", "description", "tags",          "domains",  "thresholds",
    "routing", "base",    "base_model",  "base_digest",   "embedder", "licence",
    "license", "kind",    "members",     "training_data", "training", "evaluation"};
constexpr std::string_view kThresholdFields[] = {"min_score"};
constexpr std::string_view kMemberFields[] = {"expert", "weight"};
constexpr std::string_view kRoutingFields[] = {"mean_score", "std_score", "n"};

constexpr size_t kMaxVersionBytes = 32;
constexpr size_t kMaxShortTextBytes = 256;  // base, embedder, facts

class CardReader {
 public:
  CardReader(std::string_view name, const CardLimits& limits) : name_(name), limits_(limits) {}

  // What is wrong goes to *problems, all of it, in the order of the file and then what is missing.
  ExpertCard Read(const YamlValue& root, std::vector<Status>* problems) {
    if (root.kind != YamlValue::Kind::kMap) {
      problems->push_back(absl::InvalidArgumentError(absl::StrCat(
          name_, root.kind == YamlValue::Kind::kNull ? " is empty" : "",
          ": a card is a map of fields, name, version and description at least (docs/expert-format.md)")));
      return std::move(card_);
    }
    for (size_t i = 0; i < root.keys.size(); ++i) {
      if (Status status = ReadField(root.keys[i], root.items[i]); !status.ok()) {
        problems->push_back(std::move(status));
      }
    }
    for (const char* key : {"name", "version", "description"}) {
      if (root.Find(key) == nullptr) {
        problems->push_back(absl::InvalidArgumentError(absl::StrCat(
            name_, ": field ", key,
            " is missing; a card has name, version and description at least (docs/expert-format.md)")));
      }
    }
    if (problems->empty()) {
      if (Status status = CheckKind(root); !status.ok()) problems->push_back(std::move(status));
    }
    return std::move(card_);
  }

 private:
  // Model cards spell some fields otherwise.
  static constexpr std::pair<std::string_view, std::string_view> kSpellings[] = {
      {"license", "licence"}, {"base_model", "base"}, {"domains", "tags"}};  // theirs, ours
  static std::string_view OwnSpelling(std::string_view key) {
    for (const auto& [theirs, ours] : kSpellings) {
      if (key == theirs) return ours;
    }
    return key;
  }
  static absl::string_view OtherSpelling(std::string_view key) {
    for (const auto& [theirs, ours] : kSpellings) {
      if (key == theirs) return ToAbsl(ours);
      if (key == ours) return ToAbsl(theirs);
    }
    return ToAbsl(key);
  }

  Status ReadField(const std::string& key, const YamlValue& value) {
    const std::string_view own = OwnSpelling(key);
    if (own != "tags" && std::find(read_.begin(), read_.end(), own) != read_.end()) {
      return absl::InvalidArgumentError(absl::StrCat(name_, " line ", value.line, ": field ", key,
                                                     " is there in two spellings, this one and ",
                                                     OtherSpelling(key), "; keep one"));
    }
    read_.emplace_back(own);
    if (own == "name") {
      RETURN_IF_ERROR(Text(key, value, kMaxExpertNameBytes, &card_.name));
      return Annotate(ValidateExpertName(card_.name), Place(key, value));
    }
    if (own == "version") return Version(key, value);
    if (own == "description") return Text(key, value, limits_.max_description_bytes, &card_.description);
    if (own == "tags") return Words(key, value, &card_.tags);
    if (own == "thresholds") return Thresholds(key, value);
    if (own == "routing") return Routing(key, value);
    if (own == "base") return Text(key, value, kMaxShortTextBytes, &card_.base);
    if (own == "base_digest") return BaseDigest(key, value);
    if (own == "embedder") return Text(key, value, kMaxShortTextBytes, &card_.embedder);
    if (own == "licence") return Text(key, value, kMaxShortTextBytes, &card_.licence);
    if (own == "kind") return Kind(key, value);
    if (own == "members") return Members(key, value);
    if (own == "training_data" || own == "training" || own == "evaluation") {
      return Facts(key, value);
    }
    return Unknown("", key, value, kFields);
  }

  // Names what was meant, if one is near enough.
  Status Unknown(std::string_view parent, std::string_view key, const YamlValue& value,
                 std::span<const std::string_view> known) const {
    const std::string_view nearest = Nearest(absl::AsciiStrToLower(ToAbsl(key)), known);
    return absl::InvalidArgumentError(absl::StrCat(
        name_, " line ", value.line, ": unknown field ", Quoted(absl::StrCat(ToAbsl(parent), ToAbsl(key))),
        nearest.empty() ? "; known are " : absl::StrCat("; did you mean ", ToAbsl(nearest), "? Known are "),
        absl::StrJoin(known, ", ", [](std::string* out, std::string_view name) { out->append(name); })));
  }

  std::string Place(std::string_view key, const YamlValue& value) const {
    return absl::StrCat(name_, " line ", value.line, ": field ", ToAbsl(key));
  }

  Status Refuse(std::string_view key, const YamlValue& value, std::string_view want) const {
    const std::string shown = value.kind == YamlValue::Kind::kScalar ? Quoted(value.scalar)
                              : value.kind == YamlValue::Kind::kList ? "a list"
                              : value.kind == YamlValue::Kind::kMap  ? "a map"
                                                                     : "empty";
    return absl::InvalidArgumentError(
        absl::StrCat(Place(key, value), " is ", shown, ", want ", ToAbsl(want)));
  }

  // One line of text without control characters.
  Status Text(std::string_view key, const YamlValue& value, size_t max_bytes, std::string* text) const {
    if (value.kind != YamlValue::Kind::kScalar || value.scalar.empty()) return Refuse(key, value, "a text");
    std::string line = value.scalar;
    while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
    // A folded text may hold line ends; for everything that shows a card it is one line.
    std::replace(line.begin(), line.end(), '\n', ' ');
    const auto control = [](char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7f; };
    if (line.empty()) return Refuse(key, value, "a text");
    if (std::any_of(line.begin(), line.end(), control)) {
      return absl::InvalidArgumentError(absl::StrCat(Place(key, value), " holds a control character"));
    }
    if (line.size() > max_bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(Place(key, value), " has ", line.size(), " bytes, the limit is ", max_bytes));
    }
    *text = std::move(line);
    return absl::OkStatus();
  }

  Status Version(std::string_view key, const YamlValue& value) {
    RETURN_IF_ERROR(Text(key, value, kMaxVersionBytes, &card_.version));
    const auto alphanumeric = [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    };
    const auto allowed = [&](char c) {
      return alphanumeric(c) || c == '.' || c == '+' || c == '_' || c == '-';
    };
    if (!alphanumeric(card_.version[0]) ||
        !std::all_of(card_.version.begin(), card_.version.end(), allowed)) {
      return Refuse(key, value, "letters, digits, '.', '+', '_' and '-', as in 1.2.0");
    }
    return absl::OkStatus();
  }

  // Words are as names of experts are: what a client declares is compared with them byte for byte.
  Status Words(std::string_view key, const YamlValue& value, std::vector<std::string>* words) const {
    if (value.kind == YamlValue::Kind::kNull) return absl::OkStatus();
    if (value.kind != YamlValue::Kind::kList) return Refuse(key, value, "a list of words");
    for (const YamlValue& item : value.items) {
      const bool is_word =
          item.kind == YamlValue::Kind::kScalar &&
          (item.scalar == "base" || item.scalar == "auto" || ValidateExpertName(item.scalar).ok());
      if (!is_word)
        return Refuse(key, item, "words of a-z, 0-9, '.', '_' and '-', at most 64 characters each");
      if (std::find(words->begin(), words->end(), item.scalar) == words->end()) words->push_back(item.scalar);
    }
    if (words->size() > limits_.max_tags) {
      return absl::InvalidArgumentError(absl::StrCat(Place(key, value), " makes ", words->size(),
                                                     " words, the limit is ", limits_.max_tags));
    }
    return absl::OkStatus();
  }

  Status Thresholds(std::string_view key, const YamlValue& value) {
    if (value.kind != YamlValue::Kind::kMap) return Refuse(key, value, "a map as in {min_score: 0.3}");
    for (size_t i = 0; i < value.keys.size(); ++i) {
      const std::string& name = value.keys[i];
      const YamlValue& threshold = value.items[i];
      if (name != "min_score") {
        return Unknown("thresholds.", name, threshold, kThresholdFields);
      }
      float score = 0;
      if (threshold.kind != YamlValue::Kind::kScalar || !absl::SimpleAtof(threshold.scalar, &score) ||
          !(score >= -1 && score <= 1)) {
        return Refuse("thresholds.min_score", threshold, "a number from -1 to 1");
      }
      card_.min_score = score;
    }
    return absl::OkStatus();
  }

  Status Routing(std::string_view key, const YamlValue& value) {
    if (value.kind != YamlValue::Kind::kMap) {
      return Refuse(key, value, "a map as in {mean_score: 0.61, std_score: 0.08, n: 412}");
    }
    RoutingReference reference;
    for (size_t i = 0; i < value.keys.size(); ++i) {
      const std::string& name = value.keys[i];
      const YamlValue& item = value.items[i];
      const std::string path = absl::StrCat("routing.", Shown(name));
      const auto number = [&](double low, double high, double* to) {
        return item.kind == YamlValue::Kind::kScalar && absl::SimpleAtod(item.scalar, to) && *to >= low &&
               *to <= high;
      };
      if (name == "mean_score") {
        if (!number(-1, 1, &reference.mean_score)) return Refuse(path, item, "a number from -1 to 1");
      } else if (name == "std_score") {
        if (!number(0, 1, &reference.std_score)) return Refuse(path, item, "a number from 0 to 1");
      } else if (name == "n") {
        uint32_t n = 0;
        if (item.kind != YamlValue::Kind::kScalar || !absl::SimpleAtoi(item.scalar, &n) || n == 0) {
          return Refuse(path, item, "a whole number from 1 to 4294967295");
        }
        reference.n = n;
      } else {
        return Unknown("routing.", name, item, kRoutingFields);
      }
    }
    for (const char* name : {"mean_score", "std_score", "n"}) {
      if (value.Find(name) == nullptr) {
        return absl::InvalidArgumentError(
            absl::StrCat(Place(key, value), " lacks ", name, "; it has mean_score, std_score and n"));
      }
    }
    card_.routing = reference;
    return absl::OkStatus();
  }

  Status BaseDigest(std::string_view key, const YamlValue& value) {
    auto digest = Digest::FromHex(value.scalar);
    if (!digest.ok()) return Refuse(key, value, "64 lower-case hexadecimal digits");
    card_.base_digest = *digest;
    return absl::OkStatus();
  }

  Status Kind(std::string_view key, const YamlValue& value) {
    const std::optional<CollaborationMode> mode = CollaborationModeOf(value.scalar);
    if (!mode && value.scalar != "adapter") return Refuse(key, value, "adapter, mixture or blend");
    card_.mode = mode.value_or(CollaborationMode::kNone);
    return absl::OkStatus();
  }

  Status Members(std::string_view key, const YamlValue& value) {
    if (value.kind != YamlValue::Kind::kList) {
      return Refuse(key, value, "a list of members as {expert: postgres, weight: 0.6}");
    }
    const size_t n = value.items.size();
    if (n < 2 || n > kMaxExpertMembers) {
      return absl::InvalidArgumentError(
          absl::StrCat(Place(key, value), " has ", n, " entries, the limits are 2 and ", kMaxExpertMembers));
    }
    std::vector<std::optional<float>> given(n);
    for (size_t i = 0; i < n; ++i) {
      RETURN_IF_ERROR(Member(absl::StrCat("members[", i, "]"), value.items[i], &given[i]));
    }
    const auto weight_field = [&](size_t i) {
      return Place(absl::StrCat("members[", i, "].weight"), value.items[i]);
    };
    ASSIGN_OR_RETURN(const std::vector<float> weights,
                     CompleteWeights(given, weight_field, Place(key, value)));
    for (size_t i = 0; i < n; ++i) {
      if (weights[i] == 0) {
        return absl::InvalidArgumentError(absl::StrCat(weight_field(i), " is ", given[i].value_or(0),
                                                       ", the limit is 1/64; leave ",
                                                       card_.members[i].expert.name, " out or give it more"));
      }
      card_.members[i].weight = weights[i];
    }
    return absl::OkStatus();
  }

  Status Member(const std::string& path, const YamlValue& value, std::optional<float>* weight) {
    if (value.kind != YamlValue::Kind::kMap) {
      return Refuse(path, value, "a map as {expert: postgres, weight: 0.6}");
    }
    for (size_t i = 0; i < value.keys.size(); ++i) {
      const std::string& name = value.keys[i];
      const YamlValue& item = value.items[i];
      if (name == "weight") {
        float number = 0;
        if (item.kind != YamlValue::Kind::kScalar || !absl::SimpleAtof(item.scalar, &number)) {
          return Refuse(path + ".weight", item, "a number");
        }
        *weight = number;
      } else if (name != "expert") {
        return Unknown(path + ".", name, item, kMemberFields);
      }
    }
    const YamlValue* expert = value.Find("expert");
    if (expert == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat(Place(path, value), " lacks expert, a name or name@digest"));
    }
    const std::string field = path + ".expert";
    auto selector = ParseExpertSelector(expert->scalar);
    if (expert->kind != YamlValue::Kind::kScalar || !selector.ok() ||
        selector->kind != ExpertSelector::Kind::kNamed) {
      return Refuse(field, *expert, "the name of an expert, or name@digest");
    }
    for (const CardMember& before : card_.members) {
      if (before.expert.name != selector->name) continue;
      return absl::InvalidArgumentError(absl::StrCat(Place(field, *expert), " is ", Quoted(expert->scalar),
                                                     ", which is a member already; give it one weight"));
    }
    card_.members.push_back({*std::move(selector)});
    return absl::OkStatus();
  }

  // What two fields say together.
  Status CheckKind(const YamlValue& root) const {
    const YamlValue* members = root.Find("members");
    if (card_.mode == CollaborationMode::kNone && members != nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat(Place("members", *members), " goes with kind: mixture or kind: blend; say which"));
    }
    if (card_.mode != CollaborationMode::kNone && members == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(name_, ": field members is missing; a ",
                                                     ToAbsl(NameOf(card_.mode)),
                                                     " names the experts that it is made of"));
    }
    for (const CardMember& member : card_.members) {
      if (member.expert.name != card_.name) continue;
      return absl::InvalidArgumentError(absl::StrCat(Place("members", *members), " names ", card_.name,
                                                     ", the expert that the card is of; publish the ",
                                                     ToAbsl(NameOf(card_.mode)), " under another name"));
    }
    return absl::OkStatus();
  }

  Status Facts(const std::string& path, const YamlValue& value) {
    switch (value.kind) {
      case YamlValue::Kind::kNull:
        return absl::OkStatus();
      case YamlValue::Kind::kScalar:
        if (value.scalar.size() > limits_.max_description_bytes) {
          return absl::InvalidArgumentError(absl::StrCat(Place(Shown(path), value), " has ",
                                                         value.scalar.size(), " bytes, the limit is ",
                                                         limits_.max_description_bytes));
        }
        if (path.size() > kMaxShortTextBytes) {
          return absl::InvalidArgumentError(absl::StrCat(name_, " line ", value.line, ": the name of field ",
                                                         Shown(path), " has ", path.size(),
                                                         " bytes, the limit is ", kMaxShortTextBytes));
        }
        if (card_.facts.size() >= limits_.max_facts) {
          return absl::InvalidArgumentError(absl::StrCat(name_, " line ", value.line, ": more than ",
                                                         limits_.max_facts,
                                                         " values in the fields for people"));
        }
        card_.facts.emplace_back(path, value.scalar);
        return absl::OkStatus();
      case YamlValue::Kind::kList:
        for (size_t i = 0; i < value.items.size(); ++i) {
          RETURN_IF_ERROR(Facts(absl::StrCat(path, "[", i, "]"), value.items[i]));
        }
        return absl::OkStatus();
      case YamlValue::Kind::kMap:
        for (size_t i = 0; i < value.keys.size(); ++i) {
          RETURN_IF_ERROR(Facts(absl::StrCat(path, ".", value.keys[i]), value.items[i]));
        }
        return absl::OkStatus();
    }
    return absl::OkStatus();
  }

  const std::string name_;
  const CardLimits limits_;
  std::vector<std::string> read_;  // fields so far, in our own spelling
  ExpertCard card_;
};

}  // namespace

ExpertCard ReadExpertCard(std::string_view yaml, std::string_view name, const CardLimits& limits,
                          std::vector<Status>* problems) {
  const StatusOr<YamlValue> root = ParseYaml(yaml, name, {.max_bytes = limits.max_bytes});
  if (!root.ok()) {
    problems->push_back(root.status());
    return {};
  }
  return CardReader(name, limits).Read(*root, problems);
}

bool SaysComposite(std::string_view yaml, const CardLimits& limits) {
  std::vector<Status> problems;
  return ReadExpertCard(yaml, "card", limits, &problems).mode != CollaborationMode::kNone;
}

StatusOr<ExpertCard> ParseExpertCard(std::string_view yaml, std::string_view name, const CardLimits& limits) {
  std::vector<Status> problems;
  ExpertCard card = ReadExpertCard(yaml, name, limits, &problems);
  if (!problems.empty()) return std::move(problems.front());
  return card;
}

}  // namespace coterie
