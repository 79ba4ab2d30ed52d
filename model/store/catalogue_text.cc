#include "model/store/catalogue_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/ids.h"

// Written by hand: a publisher writes the whole catalogue each time, and a tree of JSON values for each
// expert took ten times as long as the text.
namespace coterie {
namespace store_internal {
namespace {

using Json = nlohmann::json;

// `text` as a JSON string, in quotes.
void AppendText(std::string_view text, std::string* out) {
  const bool plain = std::all_of(text.begin(), text.end(),
                                 [](char c) { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; });
  if (plain) {
    absl::StrAppend(out, "\"", ToAbsl(text), "\"");
  } else {
    out->append(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace));
  }
}

// In as many digits as bring the same number back.
void AppendNumber(double value, std::string* out) { out->append(Json(value).dump()); }

void AppendVersion(const ExpertVersion& version, std::string* out) {
  absl::StrAppend(out, "\"version\":");
  AppendText(version.version, out);
  absl::StrAppend(out, ",\"adapter\":\"", version.adapter.ToHex(),
                  "\",\"adapter_bytes\":", version.adapter_bytes, ",\"revision\":\"",
                  version.revision.ToHex(), "\"");
  if (version.base.has_value()) absl::StrAppend(out, ",\"base\":\"", version.base->ToHex(), "\"");
  if (version.embedder.has_value()) absl::StrAppend(out, ",\"embedder\":\"", version.embedder->ToHex(), "\"");
  absl::StrAppend(out, ",\"published_unix\":", version.published_unix);
  if (version.withdrawn) out->append(",\"withdrawn\":true");
  if (!version.is_composite()) return;
  absl::StrAppend(out, ",\"kind\":\"", ToAbsl(NameOf(version.mode)), "\",\"members\":[");
  for (const ExpertMember& member : version.members) {
    absl::StrAppend(out, &member == version.members.data() ? "" : ",", "{\"name\":\"", member.name,
                    "\",\"adapter\":\"", member.adapter.ToHex(),
                    "\",\"adapter_bytes\":", member.adapter_bytes, ",\"weight\":");
    AppendNumber(member.weight, out);
    out->push_back('}');
  }
  out->push_back(']');
}

// Begins with `front` and goes on after it; false, leaving *text, when it does not begin so.
bool Take(std::string_view front, std::string_view* text) {
  if (text->substr(0, front.size()) != front) return false;
  text->remove_prefix(front.size());
  return true;
}

// The text before the number of the generation, and behind it.
std::string Opening() { return absl::StrCat("{\"format\": ", kCatalogueFormat, ", \"generation\": "); }
constexpr std::string_view kExperts = ", \"experts\": [";

}  // namespace

void AppendEntry(const CatalogueEntry& entry, std::string* out) {
  absl::StrAppend(out, "{\"name\":\"", entry.name, "\",");
  AppendVersion(entry.live, out);
  out->append(",\"description\":");
  AppendText(entry.description, out);
  out->append(",\"tags\":[");
  for (const std::string& tag : entry.tags) {
    if (&tag != entry.tags.data()) out->push_back(',');
    AppendText(tag, out);
  }
  out->append("],\"licence\":");
  AppendText(entry.licence, out);
  if (entry.min_score.has_value()) {
    out->append(",\"min_score\":");
    AppendNumber(*entry.min_score, out);
  }
  if (entry.routing.has_value()) {
    out->append(",\"routing\":{\"mean_score\":");
    AppendNumber(entry.routing->mean_score, out);
    out->append(",\"std_score\":");
    AppendNumber(entry.routing->std_score, out);
    absl::StrAppend(out, ",\"n\":", entry.routing->n, "}");
  }
  absl::StrAppend(out, ",\"n_prototypes\":", entry.n_prototypes);
  if (entry.canary.has_value()) {
    out->append(",\"canary\":{");
    AppendVersion(entry.canary->version, out);
    out->append(",\"share\":");
    AppendNumber(entry.canary->share, out);
    out->push_back('}');
  }
  out->append(",\"history\":[");
  for (const ExpertVersion& version : entry.history) {
    out->append(&version == entry.history.data() ? "{" : ",{");
    AppendVersion(version, out);
    out->push_back('}');
  }
  out->append("]}");
}

std::optional<CatalogueLines> SplitCatalogue(std::string_view text) {
  CatalogueLines lines;
  if (!Take(Opening(), &text)) return std::nullopt;
  const std::string_view number = text.substr(0, std::min(text.find_first_not_of("0123456789"), text.size()));
  if (!absl::SimpleAtoi(ToAbsl(number), &lines.generation)) return std::nullopt;
  text.remove_prefix(number.size());
  if (!Take(kExperts, &text) || !Take("\n", &text)) return std::nullopt;
  while (!Take("]}\n", &text)) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return std::nullopt;
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    const bool last = text == "]}\n";
    if (!last && (line.empty() || line.back() != ',')) return std::nullopt;
    if (!last) line.remove_suffix(1);
    lines.experts.push_back(line);
  }
  if (!text.empty()) return std::nullopt;
  return lines;
}

std::string NameInLine(std::string_view line) {
  constexpr std::string_view kKey = "\"name\":";
  size_t at = line.find(kKey);
  if (at == std::string_view::npos) return "";
  at = line.find_first_not_of(' ', at + kKey.size());
  if (at == std::string_view::npos || line[at] != '"') return "";
  line.remove_prefix(at + 1);
  const std::string name(line.substr(0, std::min(line.find('"'), kMaxExpertNameBytes)));
  return ValidateExpertName(name).ok() ? name : "";
}

std::string DamagedText(std::string_view line) {
  return Json({{"name", NameInLine(line)}, {"damaged", std::string(line)}})
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace store_internal

std::string SerializeCatalogue(const Catalogue& catalogue) {
  std::string text =
      absl::StrCat(store_internal::Opening(), catalogue.generation, ToAbsl(store_internal::kExperts));
  text.reserve(text.size() + 512 * (catalogue.entries.size() + 1));
  const char* separator = "\n";
  for (const CatalogueEntry& entry : catalogue.entries) {
    text.append(separator);
    store_internal::AppendEntry(entry, &text);
    separator = ",\n";
  }
  for (const DamagedEntry& entry : catalogue.damaged) {
    absl::StrAppend(&text, separator, entry.text);
    separator = ",\n";
  }
  return text + "\n]}\n";
}

}  // namespace coterie
