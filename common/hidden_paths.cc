#include "common/hidden_paths.h"

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"

namespace coterie {
namespace {

// Whether a path that ends with `text` goes on with what follows it: "/var" before "/store", of another
// folder.
bool EndsInsideOfAPath(std::string_view text) {
  return !text.empty() && (absl::ascii_isalnum(static_cast<unsigned char>(text.back())) ||
                           std::string_view("/._-~").find(text.back()) != std::string_view::npos);
}

// How far the path goes that begins `text`; folders of ours hold no such characters.
size_t PathLength(std::string_view text) { return std::min(text.find_first_of(" :;,\"'()\n"), text.size()); }

}  // namespace

Status WithoutPaths(const Status& status, const std::filesystem::path& folder, std::string_view what) {
  std::string root = folder.lexically_normal().string();
  if (root.ends_with('/')) root.pop_back();
  if (status.ok() || !folder.is_absolute() || root.size() < 2) return status;
  std::string words;
  std::string_view rest = ToStd(status.message());
  for (size_t at = rest.find(root); at != std::string_view::npos; at = rest.find(root)) {
    const std::string_view before = rest.substr(0, at);
    words.append(before);
    rest.remove_prefix(at + root.size());
    const std::string_view below = rest.substr(0, PathLength(rest));
    // A neighbour whose name begins alike, or a folder of the same name elsewhere.
    if ((!below.empty() && below[0] != '/') || EndsInsideOfAPath(before)) {
      words.append(root);
      continue;
    }
    const std::string name = std::filesystem::path(below).filename().string();
    words.append(name.empty() ? what : name);
    rest.remove_prefix(below.size());
  }
  words.append(rest);
  Status hidden(status.code(), words);
  status.ForEachPayload(
      [&hidden](absl::string_view url, const absl::Cord& payload) { hidden.SetPayload(url, payload); });
  return hidden;
}

}  // namespace coterie
