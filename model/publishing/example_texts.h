#ifndef COTERIE_MODEL_PUBLISHING_EXAMPLE_TEXTS_H_
#define COTERIE_MODEL_PUBLISHING_EXAMPLE_TEXTS_H_

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "common/status.h"

namespace coterie {

struct ExampleLimits {
  size_t max_texts = 2000;          // of more, so many are taken evenly
  size_t max_text_bytes = 8 << 10;  // of each; an encoder reads some 256 tokens
  size_t max_file_bytes = 16 << 20;
  size_t max_folder_bytes = 256 << 20;  // all documents together
  size_t max_files = 20'000;
};

struct ExampleTexts {
  std::vector<std::string> texts;  // never empty; none twice
  std::vector<std::string> notes;  // what was left out, a sentence each
};

// A file of questions, one on a line; empty lines and those that begin with '#' are left out. NotFound, or
// InvalidArgument naming the file, the line, the value and the limit.
StatusOr<ExampleTexts> ReadExamples(const std::filesystem::path& file, const ExampleLimits& limits = {});

// Passages of about 200 words out of the text files (.txt, .md, .rst and the like) below a folder, hidden
// ones left out; other files are passed over and noted. The order is that of the paths.
StatusOr<ExampleTexts> ReadDocuments(const std::filesystem::path& folder, const ExampleLimits& limits = {});

}  // namespace coterie

#endif  // COTERIE_MODEL_PUBLISHING_EXAMPLE_TEXTS_H_
