#include "common/content_kind.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/quoted.h"
#include "common/utf8.h"

namespace coterie {
namespace {

using std::string_view_literals::operator""sv;

constexpr size_t kShownBytes = 60;  // of a text that stands in a file's place

std::string_view NameOf(Content content) {
  switch (content) {
    case Content::kSafetensors:
      return "a safetensors file";
    case Content::kGguf:
      return "a GGUF file";
    case Content::kJson:
      return "JSON";
    case Content::kYaml:
      return "YAML";
  }
  return "";
}

bool IsBinary(Content content) { return content == Content::kSafetensors || content == Content::kGguf; }

struct Magic {
  std::string_view bytes;
  std::string_view words;
};

// Beginnings that no file of ours has.
constexpr std::array<Magic, 9> kMagics = {{
    {"\x1f\x8b"sv, "is compressed with gzip; unpack it first"},
    {"\x28\xb5\x2f\xfd"sv, "is compressed with zstd; unpack it first"},
    {"\xfd"
     "7zXZ"sv,
     "is compressed with xz; unpack it first"},
    {"BZh"sv, "is compressed with bzip2; unpack it first"},
    {"PK\x03\x04"sv,
     "is a ZIP archive; unpack it first, or if torch.save wrote it (a Python pickle, which can run code), "
     "save it again as safetensors"},
    {"\x80\x02"sv, "is a Python pickle, which can run code; save it again as safetensors"},
    {"\x80\x04"sv, "is a Python pickle, which can run code; save it again as safetensors"},
    {"\xff\xfe"sv, "is UTF-16 text; save it as UTF-8"},
    {"\xfe\xff"sv, "is UTF-16 text; save it as UTF-8"},
}};

// The number after "\nsize " of a Git LFS pointer, or nothing.
std::string PointerSize(std::string_view text) {
  const size_t at = text.find("\nsize ");
  if (at == std::string_view::npos) return "";
  const std::string_view rest = text.substr(at + 6);
  return std::string(rest.substr(0, std::min(rest.find_first_not_of("0123456789"), rest.size())));
}

bool IsText(std::string_view bytes) {
  return IsWellFormed(CutUtf8(bytes, 256)) && bytes.find('\0') == std::string_view::npos;
}

}  // namespace

std::string WrongContent(Content expected, std::string_view bytes) {
  if (bytes.empty()) return "is empty: the download or the copy failed; fetch it again";
  if (bytes.substr(0, 8) == "version " && absl::StrContains(ToAbsl(bytes.substr(0, 64)), "git-lfs")) {
    const std::string size = PointerSize(bytes.substr(0, 512));
    return absl::StrCat("is a Git LFS pointer", size.empty() ? "" : absl::StrCat(" to ", size, " bytes"),
                        ", not the file itself; fetch it with `git lfs pull`");
  }
  // A header of 640 bytes begins as a pickle does, and one of 65,279 as UTF-16.
  const bool is_safetensors = bytes.size() > 8 && bytes.substr(5, 4) == "\0\0\0{"sv;
  for (const Magic& magic : kMagics) {
    if (!is_safetensors && bytes.substr(0, magic.bytes.size()) == magic.bytes)
      return std::string(magic.words);
  }
  if (bytes.size() > 262 && bytes.substr(257, 5) == "ustar") return "is a tar archive; unpack it first";
  if (bytes.substr(0, 4) == "GGUF") {
    return expected == Content::kGguf ? "" : absl::StrCat("is a GGUF file, not ", ToAbsl(NameOf(expected)));
  }
  if (expected != Content::kSafetensors && is_safetensors) {
    return absl::StrCat("is a safetensors file, not ", ToAbsl(NameOf(expected)));
  }
  if (bytes.size() >= 16 && bytes.find_first_not_of('\0') >= 16) {
    return "begins with zeros: an incomplete download or copy; fetch it again";
  }
  const absl::string_view text = absl::StripLeadingAsciiWhitespace(
      ToAbsl(bytes.substr(0, 3) == "\xEF\xBB\xBF" ? bytes.substr(3) : bytes));
  for (const char* beginning : {"<!doctype", "<html", "<head", "<?xml", "<!--", "<error"}) {
    if (absl::StartsWithIgnoreCase(text, beginning)) {
      return "is a web page, which servers send in place of a file that is gone or wants a login; fetch it "
             "again";
    }
  }
  if (IsBinary(expected) && IsText(bytes)) {
    return absl::StrCat("is text, not ", ToAbsl(NameOf(expected)), ": ", Quoted(bytes, kShownBytes),
                        "; fetch it again");
  }
  return "";
}

Status ExplainRefusal(const Status& refusal, Content expected, std::string_view bytes,
                      std::string_view name) {
  if (refusal.ok()) return refusal;
  const std::string words = WrongContent(expected, bytes);
  if (words.empty()) return Annotate(refusal, name);
  return Status(refusal.code(), absl::StrCat(ToAbsl(name), " ", words, " (", refusal.message(), ")"));
}

}  // namespace coterie
