// Reading side of SafetensorsFile: the header is walked event by event, so that a hostile one costs no more
// memory than its tensors' names.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "common/content_kind.h"
#include "common/quoted.h"
#include "model/format/byte_reader.h"
#include "model/format/describe.h"
#include "model/format/safetensors.h"

namespace coterie {
namespace {

struct ElementType {
  std::string_view name;
  int bits;
  int dtype;  // DType or -1: known, not ours
};

constexpr ElementType kElementTypes[] = {
    {"F32", 32, static_cast<int>(DType::kF32)},
    {"F16", 16, static_cast<int>(DType::kF16)},
    {"BF16", 16, static_cast<int>(DType::kBF16)},
    {"F64", 64, -1},
    {"I64", 64, -1},
    {"U64", 64, -1},
    {"I32", 32, -1},
    {"U32", 32, -1},
    {"I16", 16, -1},
    {"U16", 16, -1},
    {"I8", 8, -1},
    {"U8", 8, -1},
    {"BOOL", 8, -1},
    {"F8_E4M3", 8, -1},
    {"F8_E5M2", 8, -1},
    {"F8_E8M0", 8, -1},
    {"C64", 64, -1},
};

const ElementType* FindElementType(std::string_view name) {
  for (const ElementType& type : kElementTypes) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

struct Entry {
  std::string name;
  const ElementType* type = nullptr;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;
};

// Accepts exactly {"name": {"dtype": s, "shape": [n…], "data_offsets": [b, e]}, "__metadata__": {s: s}}.
class HeaderEvents {
 public:
  using number_integer_t = int64_t;
  using number_unsigned_t = uint64_t;
  using number_float_t = double;
  using string_t = std::string;
  using binary_t = nlohmann::json::binary_t;

  explicit HeaderEvents(const SafetensorsLimits& limits) : limits_(limits) {}
  Status status = absl::OkStatus();
  std::vector<Entry> entries;
  std::map<std::string, std::string, std::less<>> metadata;

  bool null() { return Unexpected("null"); }
  bool boolean(bool) { return Unexpected("a boolean"); }
  bool number_integer(int64_t value) { return Fail(absl::StrCat("a negative number, ", value, ",")); }
  bool number_float(double value, const std::string&) {
    return Fail(absl::StrCat("a fraction, ", value, ","));
  }
  bool binary(binary_t&) { return Unexpected("binary"); }

  bool number_unsigned(uint64_t value) {
    if (place_ == Place::kShape) {
      if (entries.back().shape.size() >= limits_.max_dimensions) {
        return Fail(absl::StrCat("more than ", limits_.max_dimensions, " dimensions"));
      }
      if (value > static_cast<uint64_t>(INT64_MAX)) return Fail(absl::StrCat("dimension ", value));
      entries.back().shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (place_ == Place::kOffsets) {
      if (n_offsets_ >= 2) return Fail("more than two data_offsets");
      (n_offsets_++ == 0 ? entries.back().begin : entries.back().end) = value;
      return true;
    }
    return Unexpected("a number");
  }

  bool string(std::string& value) {
    if (place_ == Place::kMetadata) {
      metadata_bytes_ += value.size();
      if (metadata_bytes_ > limits_.max_metadata_bytes) {
        status = absl::InvalidArgumentError(
            absl::StrCat("__metadata__ has more than ", limits_.max_metadata_bytes, " bytes"));
        return false;
      }
      metadata[key_] = std::move(value);
      return true;
    }
    if (place_ == Place::kTensor && key_ == "dtype") {
      entries.back().type = FindElementType(value);
      return entries.back().type != nullptr || Fail(absl::StrCat("unknown dtype ", Quoted(value)));
    }
    return Unexpected("a string");
  }

  bool start_object(size_t) {
    switch (place_) {
      case Place::kBefore:
        place_ = Place::kRoot;
        return true;
      case Place::kRoot:
        if (key_ == "__metadata__") {
          place_ = Place::kMetadata;
          return true;
        }
        if (entries.size() >= limits_.max_tensors) {
          status = absl::InvalidArgumentError(absl::StrCat("more than ", limits_.max_tensors, " tensors"));
          return false;
        }
        entries.push_back({.name = key_});
        fields_.clear();
        n_offsets_ = 0;
        place_ = Place::kTensor;
        return true;
      default:
        return Unexpected("an object");
    }
  }

  bool key(std::string& key) {
    if (key.size() > limits_.max_name_bytes) {
      status = absl::InvalidArgumentError(absl::StrCat("key ", Quoted(key), " has ", key.size(),
                                                       " bytes, the limit is ", limits_.max_name_bytes));
      return false;
    }
    std::set<std::string>& seen =
        place_ == Place::kRoot ? names_ : (place_ == Place::kTensor ? fields_ : metadata_keys_);
    if (!seen.insert(key).second) {
      status = absl::InvalidArgumentError(absl::StrCat("key ", Quoted(key), " appears twice"));
      return false;
    }
    if (place_ == Place::kTensor && key != "dtype" && key != "shape" && key != "data_offsets") {
      return Fail(absl::StrCat("unknown field ", Quoted(key)));
    }
    key_ = key;
    return true;
  }

  bool end_object() {
    if (place_ == Place::kTensor) {
      if (fields_.size() != 3) return Fail("dtype, shape and data_offsets are not all there");
      if (n_offsets_ != 2) return Fail("fewer than two data_offsets");
    }
    place_ = place_ == Place::kRoot ? Place::kAfter : Place::kRoot;
    return true;
  }

  bool start_array(size_t) {
    if (place_ == Place::kTensor && key_ == "shape") {
      place_ = Place::kShape;
      return true;
    }
    if (place_ == Place::kTensor && key_ == "data_offsets") {
      place_ = Place::kOffsets;
      return true;
    }
    return Unexpected("an array");
  }

  bool end_array() {
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) {
    std::string_view what = error.what();
    what = what.substr(std::min(what.size(), what.find("] ") + 2));
    status = absl::InvalidArgumentError(
        absl::StrCat("header is not JSON: ", ToAbsl(what), " (byte ", position, ")"));
    return false;
  }

 private:
  enum class Place { kBefore, kRoot, kMetadata, kTensor, kShape, kOffsets, kAfter };

  bool Fail(std::string_view what) {
    const bool in_tensor = place_ == Place::kTensor || place_ == Place::kShape || place_ == Place::kOffsets;
    status = absl::InvalidArgumentError(
        in_tensor ? absl::StrCat("tensor ", Quoted(entries.back().name), ": ", ToAbsl(what))
                  : absl::StrCat("header: ", ToAbsl(what), " under key ", Quoted(key_)));
    return false;
  }
  bool Unexpected(std::string_view what) {
    return Fail(absl::StrCat("unexpected ", ToAbsl(what), " in field ", Quoted(key_)));
  }

  const SafetensorsLimits limits_;
  Place place_ = Place::kBefore;
  std::string key_;
  std::set<std::string> names_, fields_, metadata_keys_;
  int n_offsets_ = 0;
  size_t metadata_bytes_ = 0;
};

}  // namespace

class SafetensorsParser {
 public:
  SafetensorsParser(std::span<const uint8_t> bytes, const SafetensorsLimits& limits,
                    std::shared_ptr<const MappedFile> file, SafetensorsFile* out)
      : bytes_(bytes), limits_(limits), file_(std::move(file)), out_(out) {}

  Status Parse() {
    ByteReader reader(bytes_);
    uint64_t header_bytes;
    RETURN_IF_ERROR(reader.Read("the header length", &header_bytes));
    if (header_bytes > limits_.max_header_bytes) {
      return absl::InvalidArgumentError(absl::StrCat("not a safetensors file: header length is ",
                                                     header_bytes, ", the limit is ",
                                                     limits_.max_header_bytes));
    }
    std::string_view header;
    RETURN_IF_ERROR(reader.ReadText("the header", header_bytes, &header));
    if (header.empty() || header[0] != '{') {
      return absl::InvalidArgumentError("not a safetensors file: the header does not start with '{'");
    }
    HeaderEvents events(limits_);
    if (!nlohmann::json::sax_parse(header.begin(), header.end(), &events)) return events.status;
    out_->metadata_ = std::move(events.metadata);
    return PlaceTensors(&events.entries, bytes_.subspan(reader.position()));
  }

 private:
  // Tensors fill the data section one after the other, without overlap or hole.
  Status PlaceTensors(std::vector<Entry>* entries, std::span<const uint8_t> data) {
    std::sort(entries->begin(), entries->end(), [](const Entry& a, const Entry& b) {
      return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    uint64_t expected_begin = 0;
    for (Entry& entry : *entries) {
      const std::string quoted = Quoted(entry.name);
      if (entry.begin != expected_begin) {
        return absl::InvalidArgumentError(
            absl::StrCat("tensor ", quoted, " begins at ", entry.begin, ", expected ", expected_begin, ": ",
                         entry.begin < expected_begin ? "an overlap" : "a hole"));
      }
      if (entry.end < entry.begin || entry.end > data.size()) {
        return absl::OutOfRangeError(
            absl::StrCat("tensor ", quoted, " ends at ", entry.end, ", it begins at ", entry.begin,
                         " and the data has ", data.size(), " bytes",
                         entry.end < entry.begin ? "" : ": the file is cut short, fetch or copy it again"));
      }
      ASSIGN_OR_RETURN(const int64_t n_elements, CheckedElementCount(entry.name, entry.shape));
      const uint64_t bytes_each = static_cast<uint64_t>(entry.type->bits / 8);
      const uint64_t n_bytes = entry.end - entry.begin;
      if (n_bytes % bytes_each != 0 || static_cast<uint64_t>(n_elements) != n_bytes / bytes_each) {
        return absl::InvalidArgumentError(absl::StrCat("tensor ", quoted, " of shape ",
                                                       ShapeText(entry.shape), " and ",
                                                       ToAbsl(entry.type->name), " has ", n_bytes, " bytes"));
      }
      expected_begin = entry.end;
      if (entry.type->dtype < 0) {
        out_->others_.emplace(std::move(entry.name), std::string(entry.type->name));
        continue;
      }
      out_->tensors_.push_back({.name = std::move(entry.name),
                                .dtype = static_cast<DType>(entry.type->dtype),
                                .shape = std::move(entry.shape),
                                .bytes = data.subspan(entry.begin, n_bytes),
                                .file = file_});
    }
    if (expected_begin != data.size()) {
      return absl::InvalidArgumentError(absl::StrCat("the tensors end at ", expected_begin, ", the data has ",
                                                     data.size(), " bytes: a hole at the end"));
    }
    out_->Sort();
    return absl::OkStatus();
  }

  std::span<const uint8_t> bytes_;
  const SafetensorsLimits limits_;
  std::shared_ptr<const MappedFile> file_;
  SafetensorsFile* out_;
};

void SafetensorsFile::Sort() {
  std::sort(tensors_.begin(), tensors_.end(),
            [](const TensorView& a, const TensorView& b) { return a.name < b.name; });
}

StatusOr<SafetensorsFile> SafetensorsFile::Parse(std::span<const uint8_t> bytes, std::string_view name,
                                                 const SafetensorsLimits& limits) {
  SafetensorsFile out;
  out.name_ = std::string(name);
  if (const Status status = SafetensorsParser(bytes, limits, nullptr, &out).Parse(); !status.ok()) {
    return ExplainRefusal(status, Content::kSafetensors, AsText(bytes), name);
  }
  return out;
}

StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::filesystem::path& path,
                                                const SafetensorsLimits& limits) {
  SafetensorsFile out;
  out.name_ = path.string();
  ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  if (const Status status = SafetensorsParser(file->bytes(), limits, file, &out).Parse(); !status.ok()) {
    return ExplainRefusal(status, Content::kSafetensors, AsText(file->bytes()), out.name_);
  }
  return out;
}

}  // namespace coterie
