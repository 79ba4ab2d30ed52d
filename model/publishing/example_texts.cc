#include "model/publishing/example_texts.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "common/file.h"
#include "common/quoted.h"
#include "common/utf8.h"
#include "model/publishing/folder_listing.h"

namespace coterie {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPassageBytes = 1200;  // about 200 words
constexpr std::string_view kTextEndings[] = {".txt", ".text", ".md",  ".markdown",
                                             ".rst", ".adoc", ".org", ".tex"};

// At most limits.max_texts of them, evenly.
void Thin(const ExampleLimits& limits, ExampleTexts* examples) {
  const size_t n = examples->texts.size();
  if (n <= limits.max_texts) return;
  std::vector<std::string> taken;
  for (size_t i = 0; i < limits.max_texts; ++i) {
    taken.push_back(std::move(examples->texts[i * n / limits.max_texts]));
  }
  examples->texts = std::move(taken);
  examples->notes.push_back(absl::StrCat(n, " texts, of which ", limits.max_texts, " are taken, evenly"));
}

class TextCollector {
 public:
  TextCollector(const ExampleLimits& limits, ExampleTexts* to) : limits_(limits), to_(to) {}

  void Add(std::string_view text) {
    const std::string whole(absl::StripAsciiWhitespace(ToAbsl(text)));
    if (whole.empty()) return;
    std::string cut(CutUtf8(whole, limits_.max_text_bytes));
    if (seen_.insert(cut).second) {
      to_->texts.push_back(std::move(cut));
    } else {
      ++n_twice_;
    }
  }
  void Finish() {
    if (n_twice_ > 0) to_->notes.push_back(absl::StrCat(n_twice_, " texts are there twice and count once"));
    Thin(limits_, to_);
  }

 private:
  const ExampleLimits limits_;
  ExampleTexts* const to_;
  std::set<std::string> seen_;
  size_t n_twice_ = 0;
};

// Paragraphs together until a passage is full; a longer paragraph is cut between its words.
void AddPassages(std::string_view text, TextCollector* collector) {
  std::string passage;
  const auto end_passage = [&] {
    collector->Add(passage);
    passage.clear();
  };
  std::string unix_text(text);
  unix_text.erase(std::remove(unix_text.begin(), unix_text.end(), '\r'), unix_text.end());
  for (absl::string_view paragraph : absl::StrSplit(unix_text, "\n\n")) {
    if (passage.size() + paragraph.size() > kPassageBytes) end_passage();
    while (paragraph.size() > kPassageBytes) {
      std::string_view head = CutUtf8(ToStd(paragraph), kPassageBytes);
      if (const size_t space = head.find_last_of(" \n"); space != std::string_view::npos && space > 0) {
        head = head.substr(0, space);
      }
      collector->Add(head);
      paragraph.remove_prefix(head.size());
    }
    absl::StrAppend(&passage, passage.empty() ? "" : "\n\n", paragraph);
  }
  end_passage();
}

bool IsHidden(const fs::path& path) { return path.filename().string().starts_with("."); }

// Regular files below `folder`, by path. Links to folders are not followed, so that there is no way in
// circles.
StatusOr<std::vector<fs::path>> FilesBelow(const fs::path& folder, const ExampleLimits& limits) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    return absl::NotFoundError(absl::StrCat("no folder ", folder.string(), " with documents"));
  }
  std::vector<fs::path> files;
  fs::recursive_directory_iterator it(folder, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    if (IsHidden(it->path())) {
      it.disable_recursion_pending();
      continue;
    }
    std::error_code ignored;
    if (!it->is_regular_file(ignored)) continue;
    files.push_back(it->path());
    if (files.size() > limits.max_files) {
      return absl::InvalidArgumentError(absl::StrCat(folder.string(), " holds more than ", limits.max_files,
                                                     " files, the limit; name a smaller folder"));
    }
  }
  if (error) return ErrnoStatus(error.value(), "cannot list", folder);
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

StatusOr<ExampleTexts> ReadExamples(const fs::path& file, const ExampleLimits& limits) {
  ASSIGN_OR_RETURN(const std::string content, ReadFile(file, limits.max_file_bytes));
  std::string_view text = content;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  ExampleTexts examples;
  TextCollector collector(limits, &examples);
  size_t number = 0;
  for (const absl::string_view line : absl::StrSplit(ToAbsl(text), '\n')) {
    ++number;
    const absl::string_view stripped = absl::StripAsciiWhitespace(line);
    if (stripped.empty() || stripped.front() == '#') continue;
    if (!IsWellFormed(ToStd(stripped)) || stripped.find('\0') != absl::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrCat(file.string(), " line ", number, ": ",
                                                     Quoted(ToStd(stripped), 40),
                                                     " is not UTF-8 text; examples are a text file with one "
                                                     "question on a line"));
    }
    if (stripped.size() > limits.max_text_bytes) {
      return absl::InvalidArgumentError(absl::StrCat(file.string(), " line ", number, " has ",
                                                     stripped.size(), " bytes, the limit is ",
                                                     limits.max_text_bytes,
                                                     "; examples are questions, one on a line (documents: "
                                                     "--documents FOLDER)"));
    }
    collector.Add(ToStd(stripped));
  }
  collector.Finish();
  if (examples.texts.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.string(), " holds no question; write one on a line, a few dozen are good"));
  }
  return examples;
}

StatusOr<ExampleTexts> ReadDocuments(const fs::path& folder, const ExampleLimits& limits) {
  ASSIGN_OR_RETURN(const std::vector<fs::path> files, FilesBelow(folder, limits));
  ExampleTexts examples;
  TextCollector collector(limits, &examples);
  std::vector<std::string> others;
  size_t n_bytes = 0;
  for (const fs::path& file : files) {
    const std::string ending = absl::AsciiStrToLower(file.extension().string());
    const std::string name = file.lexically_relative(folder).string();
    if (std::find(std::begin(kTextEndings), std::end(kTextEndings), ending) == std::end(kTextEndings)) {
      others.push_back(name);
      continue;
    }
    ASSIGN_OR_RETURN(const std::string content, ReadFile(file, limits.max_file_bytes));
    n_bytes += content.size();
    if (n_bytes > limits.max_folder_bytes) {
      return absl::InvalidArgumentError(absl::StrCat(folder.string(), ": the documents have more than ",
                                                     limits.max_folder_bytes,
                                                     " bytes together, the limit; name a smaller folder"));
    }
    if (!IsWellFormed(content) || content.find('\0') != std::string::npos) {
      others.push_back(name);
      continue;
    }
    AddPassages(content, &collector);
  }
  collector.Finish();
  if (!others.empty()) {
    examples.notes.push_back(absl::StrCat(others.size(),
                                          " files are no UTF-8 text (.txt, .md, .rst and the "
                                          "like) and were passed over: ",
                                          FirstNames(others)));
  }
  if (examples.texts.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        folder.string(), " holds no text: documents are UTF-8 files that end in .txt, .md, .rst or the like",
        others.empty() ? "" : absl::StrCat("; there are ", FirstNames(others))));
  }
  return examples;
}

}  // namespace coterie
