// Reading side of GgufFile: header, metadata, tensor infos, and the checks that make the rest safe to use.
#include <algorithm>
#include <bit>

#include "common/content_kind.h"
#include "common/quoted.h"
#include "model/format/byte_reader.h"
#include "model/format/gguf.h"
#include "model/format/gguf_scalar.h"

namespace coterie {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint32_t kMaxDimensions = 4;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint32_t kValueTypeCount = 13;

struct TypeEntry {
  uint32_t id;
  std::string_view name;
  int dtype;  // DType or -1: known, not supported
};

constexpr TypeEntry kTensorTypes[] = {
    {0, "F32", static_cast<int>(DType::kF32)},
    {1, "F16", static_cast<int>(DType::kF16)},
    {2, "Q4_0", static_cast<int>(DType::kQ4_0)},
    {3, "Q4_1", static_cast<int>(DType::kQ4_1)},
    {6, "Q5_0", static_cast<int>(DType::kQ5_0)},
    {7, "Q5_1", static_cast<int>(DType::kQ5_1)},
    {8, "Q8_0", static_cast<int>(DType::kQ8_0)},
    {9, "Q8_1", -1},
    {10, "Q2_K", -1},
    {11, "Q3_K", static_cast<int>(DType::kQ3_K)},
    {12, "Q4_K", static_cast<int>(DType::kQ4_K)},
    {13, "Q5_K", static_cast<int>(DType::kQ5_K)},
    {14, "Q6_K", static_cast<int>(DType::kQ6_K)},
    {15, "Q8_K", -1},
    {16, "IQ2_XXS", -1},
    {17, "IQ2_XS", -1},
    {18, "IQ3_XXS", -1},
    {19, "IQ1_S", -1},
    {20, "IQ4_NL", static_cast<int>(DType::kIQ4_NL)},
    {21, "IQ3_S", -1},
    {22, "IQ2_S", -1},
    {23, "IQ4_XS", -1},
    {24, "I8", -1},
    {25, "I16", -1},
    {26, "I32", -1},
    {27, "I64", -1},
    {28, "F64", -1},
    {29, "IQ1_M", -1},
    {30, "BF16", static_cast<int>(DType::kBF16)},
    {34, "TQ1_0", -1},
    {35, "TQ2_0", -1},
    {39, "MXFP4", -1},
    {40, "NVFP4", -1},
};

StatusOr<DType> TensorType(std::string_view tensor, uint32_t id) {
  constexpr absl::string_view kSupported =
      "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL";
  for (const TypeEntry& entry : kTensorTypes) {
    if (entry.id != id) continue;
    if (entry.dtype >= 0) return static_cast<DType>(entry.dtype);
    return absl::UnimplementedError(absl::StrCat("tensor ", Quoted(tensor), " has type ", ToAbsl(entry.name),
                                                 ", supported are ", kSupported));
  }
  return absl::UnimplementedError(
      absl::StrCat("tensor ", Quoted(tensor), " has unknown type ", id, ", supported are ", kSupported));
}

Status TooMany(std::string_view what, uint64_t value, uint64_t limit) {
  return absl::InvalidArgumentError(absl::StrCat(ToAbsl(what), " is ", value, ", the limit is ", limit));
}

}  // namespace

class GgufParser {
 public:
  GgufParser(std::span<const uint8_t> bytes, const GgufLimits& limits, GgufFile* out)
      : bytes_(bytes), reader_(bytes), limits_(limits), out_(out) {}

  Status Parse() {
    uint64_t n_tensors, n_pairs;
    RETURN_IF_ERROR(ParseHeader(&n_tensors, &n_pairs));
    for (uint64_t i = 0; i < n_pairs; ++i) RETURN_IF_ERROR(ParsePair());
    RETURN_IF_ERROR(CheckMetadata());
    for (uint64_t i = 0; i < n_tensors; ++i) RETURN_IF_ERROR(ParseTensorInfo());
    return PlaceTensors();
  }

 private:
  Status ParseHeader(uint64_t* n_tensors, uint64_t* n_pairs) {
    uint32_t magic;
    RETURN_IF_ERROR(reader_.Read("the magic", &magic));
    if (magic != kMagic) {
      return absl::InvalidArgumentError(absl::StrCat("not a GGUF file: it starts with ",
                                                     absl::StrCat(absl::Hex(magic, absl::kZeroPad8)),
                                                     ", expected 46554747 (\"GGUF\")"));
    }
    RETURN_IF_ERROR(reader_.Read("the version", &out_->version_));
    const uint32_t version = out_->version_;
    if (version == 0x02000000 || version == 0x03000000) {
      return absl::UnimplementedError("big-endian GGUF is not supported; convert the file to little-endian");
    }
    if (version != 2 && version != 3) {
      return absl::UnimplementedError(
          absl::StrCat("GGUF version ", version, " is not supported, only 2 and 3"));
    }
    RETURN_IF_ERROR(reader_.Read("the tensor count", n_tensors));
    RETURN_IF_ERROR(reader_.Read("the metadata count", n_pairs));
    if (*n_tensors > limits_.max_tensors) return TooMany("tensor count", *n_tensors, limits_.max_tensors);
    if (*n_pairs > limits_.max_metadata_pairs) {
      return TooMany("metadata count", *n_pairs, limits_.max_metadata_pairs);
    }
    return absl::OkStatus();
  }

  Status ReadName(std::string_view what, std::string_view* name) {
    uint64_t length;
    RETURN_IF_ERROR(reader_.Read(what, &length));
    if (length > limits_.max_name_bytes) {
      return TooMany(std::string(what) + " length", length, limits_.max_name_bytes);
    }
    return reader_.ReadText(what, length, name);
  }

  // Steps over one string value, whose bytes become `raw`.
  Status ReadString(std::string_view key, std::span<const uint8_t>* raw) {
    uint64_t length;
    RETURN_IF_ERROR(reader_.Read("a string length", &length));
    if (length > limits_.max_string_bytes) {
      return TooMany("string length of metadata key " + Quoted(key), length, limits_.max_string_bytes);
    }
    return reader_.ReadSpan("a string", length, raw);
  }

  Status ReadType(std::string_view key, GgufType* type) {
    uint32_t id;
    RETURN_IF_ERROR(reader_.Read("a value type", &id));
    if (id >= kValueTypeCount) {
      return absl::InvalidArgumentError(absl::StrCat("metadata key ", Quoted(key), " has unknown value type ",
                                                     id, ", the highest is ", kValueTypeCount - 1));
    }
    *type = static_cast<GgufType>(id);
    return absl::OkStatus();
  }

  Status ParseArray(std::string_view key, GgufFile::Value* value) {
    RETURN_IF_ERROR(ReadType(key, &value->element_type));
    RETURN_IF_ERROR(reader_.Read("an array length", &value->n_elements));
    if (value->n_elements > limits_.max_array_elements) {
      return TooMany("array length of metadata key " + Quoted(key), value->n_elements,
                     limits_.max_array_elements);
    }
    if (value->element_type == GgufType::kArray) {
      return absl::UnimplementedError(
          absl::StrCat("metadata key ", Quoted(key), " is an array of arrays, which is not supported"));
    }
    if (value->element_type != GgufType::kString) {
      return reader_.ReadSpan("an array", value->n_elements * GgufScalarBytes(value->element_type),
                              &value->raw);
    }
    const size_t begin = reader_.position();
    for (uint64_t i = 0; i < value->n_elements; ++i) {
      std::span<const uint8_t> ignored;
      RETURN_IF_ERROR(ReadString(key, &ignored));
    }
    value->raw = bytes_.subspan(begin, reader_.position() - begin);
    return absl::OkStatus();
  }

  Status ParsePair() {
    std::string_view key;
    RETURN_IF_ERROR(ReadName("a metadata key", &key));
    GgufFile::Value value;
    RETURN_IF_ERROR(ReadType(key, &value.type));
    if (value.type == GgufType::kArray) {
      RETURN_IF_ERROR(ParseArray(key, &value));
    } else if (value.type == GgufType::kString) {
      RETURN_IF_ERROR(ReadString(key, &value.raw));
    } else {
      RETURN_IF_ERROR(reader_.ReadSpan("a metadata value", GgufScalarBytes(value.type), &value.raw));
    }
    if (!out_->values_.emplace(key, value).second) {
      return absl::InvalidArgumentError(absl::StrCat("metadata key ", Quoted(key), " appears twice"));
    }
    return absl::OkStatus();
  }

  Status CheckMetadata() {
    if (out_->Has("general.alignment")) {
      ASSIGN_OR_RETURN(const int64_t alignment, out_->GetInt("general.alignment"));
      if (alignment < 1 || !std::has_single_bit(static_cast<uint64_t>(alignment)) ||
          static_cast<uint64_t>(alignment) > limits_.max_alignment) {
        return absl::InvalidArgumentError(absl::StrCat(
            "general.alignment is ", alignment, ", expected a power of two up to ", limits_.max_alignment));
      }
      alignment_ = static_cast<uint64_t>(alignment);
    }
    return absl::OkStatus();
  }

  Status ParseTensorInfo() {
    std::string_view name;
    RETURN_IF_ERROR(ReadName("a tensor name", &name));
    TensorView tensor;
    tensor.name = std::string(name);
    uint32_t n_dimensions;
    RETURN_IF_ERROR(reader_.Read("a dimension count", &n_dimensions));
    if (n_dimensions > kMaxDimensions) {
      return TooMany("dimension count of tensor " + Quoted(name), n_dimensions, kMaxDimensions);
    }
    tensor.shape.resize(n_dimensions);
    for (uint32_t i = 0; i < n_dimensions; ++i) {
      uint64_t extent;
      RETURN_IF_ERROR(reader_.Read("a dimension", &extent));
      if (extent < 1 || extent > static_cast<uint64_t>(INT64_MAX)) {
        return absl::InvalidArgumentError(absl::StrCat("tensor ", Quoted(name), ": dimension ", i, " is ",
                                                       extent, ", expected 1 to ", INT64_MAX));
      }
      tensor.shape[n_dimensions - 1 - i] = static_cast<int64_t>(extent);  // the file has the innermost first
    }
    uint32_t type;
    RETURN_IF_ERROR(reader_.Read("a tensor type", &type));
    ASSIGN_OR_RETURN(tensor.dtype, TensorType(name, type));
    uint64_t offset;
    RETURN_IF_ERROR(reader_.Read("a tensor offset", &offset));
    ASSIGN_OR_RETURN(const int64_t n_bytes, CheckedTensorBytes(name, tensor.dtype, tensor.shape));
    if (offset % alignment_ != 0) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", Quoted(name), ": offset ", offset,
                                                     " is not a multiple of the alignment ", alignment_));
    }
    if (!out_->tensor_index_.emplace(name, out_->tensors_.size()).second) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", Quoted(name), " appears twice"));
    }
    tensor.file = out_->file_;
    out_->tensors_.push_back(std::move(tensor));
    places_.push_back({offset, static_cast<uint64_t>(n_bytes), out_->tensors_.size() - 1});
    return absl::OkStatus();
  }

  // Turns offsets into spans of the data section, which begins at the next multiple of the alignment.
  Status PlaceTensors() {
    const uint64_t end_of_infos = reader_.position();
    const uint64_t data_begin = (end_of_infos + alignment_ - 1) / alignment_ * alignment_;
    const uint64_t data_bytes = data_begin < bytes_.size() ? bytes_.size() - data_begin : 0;
    std::sort(places_.begin(), places_.end(),
              [](const Place& a, const Place& b) { return a.offset < b.offset; });
    uint64_t free_from = 0;
    std::string_view before;
    for (const Place& place : places_) {
      TensorView& tensor = out_->tensors_[place.index];
      if (place.offset > data_bytes || place.n_bytes > data_bytes - place.offset) {
        return absl::OutOfRangeError(absl::StrCat("truncated: tensor ", Quoted(tensor.name), " needs ",
                                                  place.n_bytes, " bytes at offset ", place.offset,
                                                  " of the data section, which has ", data_bytes));
      }
      if (place.offset < free_from) {
        return absl::InvalidArgumentError(
            absl::StrCat("tensors ", Quoted(before), " and ", Quoted(tensor.name), " overlap"));
      }
      free_from = place.offset + place.n_bytes;
      before = tensor.name;
      tensor.bytes = bytes_.subspan(data_begin + place.offset, place.n_bytes);
    }
    return absl::OkStatus();
  }

  struct Place {
    uint64_t offset, n_bytes;
    size_t index;
  };
  std::span<const uint8_t> bytes_;
  ByteReader reader_;
  const GgufLimits limits_;
  GgufFile* out_;
  uint64_t alignment_ = kDefaultAlignment;
  std::vector<Place> places_;
};

StatusOr<GgufFile> GgufFile::Parse(std::span<const uint8_t> bytes, std::string_view name,
                                   const GgufLimits& limits) {
  GgufFile out;
  out.name_ = std::string(name);
  if (const Status status = GgufParser(bytes, limits, &out).Parse(); !status.ok())
    return ExplainRefusal(status, Content::kGguf, AsText(bytes), name);
  ASSIGN_OR_RETURN(const int n_parts, out.PartCount(limits));
  if (n_parts > 1) {
    return absl::UnimplementedError(
        absl::StrCat(out.name_, ": split.count is ", n_parts, ": the model is split over several files"));
  }
  return out;
}

StatusOr<GgufFile> GgufFile::OpenPart(const std::filesystem::path& path, const GgufLimits& limits) {
  GgufFile out;
  out.name_ = path.string();
  ASSIGN_OR_RETURN(out.file_, MappedFile::Open(path));
  if (const Status status = GgufParser(out.file_->bytes(), limits, &out).Parse(); !status.ok()) {
    return ExplainRefusal(status, Content::kGguf, AsText(out.file_->bytes()), out.name_);
  }
  return out;
}

}  // namespace coterie
