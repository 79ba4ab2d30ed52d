#ifndef COTERIE_MODEL_FORMAT_GGUF_H_
#define COTERIE_MODEL_FORMAT_GGUF_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/file.h"
#include "common/status.h"
#include "model/format/tensor_view.h"

namespace coterie {

// The value types of GGUF metadata; the numbers are the file's.
enum class GgufType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

// What a reader accepts before it calls a file hostile. Real files stay far below: the largest vocabularies
// have some 300,000 tokens, the largest models some 2,000 tensors.
struct GgufLimits {
  uint64_t max_metadata_pairs = 65536;
  uint64_t max_tensors = 65536;
  uint64_t max_name_bytes = 65535;         // of keys and tensor names
  uint64_t max_string_bytes = 16 << 20;    // one string value
  uint64_t max_array_elements = 16 << 20;  // one array value
  uint64_t max_alignment = 1 << 20;
  int max_parts = 256;  // of a model in several files
};

// A parsed GGUF file, version 2 or 3, little-endian (specification: docs/gguf.md of the ggml project).
// Immutable and readable by any thread. Tensors and metadata are views of the mapped file.
//
// Every count, length and offset is checked against the file's size before it is used, tensors must not
// overlap, and keys and names must not repeat. Errors are InvalidArgument or OutOfRange and name the thing,
// the value and the limit; Unimplemented names what is well-formed but not ours: a big-endian file, version
// 1, a tensor type outside DType.
class GgufFile {
 public:
  // Of a model in several files `path` is the first; the result has the tensors of all.
  static StatusOr<GgufFile> Open(const std::filesystem::path& path, const GgufLimits& limits = {});
  // `bytes`, a whole model, must outlive the result; `name` stands in errors.
  static StatusOr<GgufFile> Parse(std::span<const uint8_t> bytes, std::string_view name,
                                  const GgufLimits& limits = {});

  const std::string& name() const { return name_; }
  uint32_t version() const { return version_; }

  // --- Metadata: NotFound naming the key, or InvalidArgument naming the key and its type. ---
  bool Has(std::string_view key) const { return values_.find(key) != values_.end(); }
  std::vector<std::string_view> Keys() const;  // ascending
  StatusOr<std::string_view> GetString(std::string_view key) const;
  StatusOr<bool> GetBool(std::string_view key) const;
  // Any integer type whose value fits.
  StatusOr<int64_t> GetInt(std::string_view key) const;
  // F32 or F64; integers are taken too (some converters write 10000 for 10000.0).
  StatusOr<double> GetFloat(std::string_view key) const;
  StatusOr<bool> IsArray(std::string_view key) const;
  // Views into the file, valid as long as it is mapped (that is, as long as this object or a TensorView
  // lives).
  StatusOr<std::vector<std::string_view>> GetStrings(std::string_view key) const;
  StatusOr<std::vector<int64_t>> GetInts(std::string_view key) const;
  StatusOr<std::vector<float>> GetFloats(std::string_view key) const;

  // --- Tensors, in the order of the file or files. ---
  const std::vector<TensorView>& tensors() const { return tensors_; }
  const TensorView* Find(std::string_view name) const;  // null when absent

 private:
  struct Value {
    GgufType type = GgufType::kU8;
    GgufType element_type = GgufType::kU8;  // of arrays
    uint64_t n_elements = 0;                // of arrays
    std::span<const uint8_t> raw;           // scalars, string bytes, array elements
  };
  friend class GgufParser;

  static StatusOr<GgufFile> OpenPart(const std::filesystem::path& path, const GgufLimits& limits);
  StatusOr<int> PartCount(const GgufLimits& limits) const;
  Status CheckPart(int part, int n_parts) const;
  Status TakeTensorsOf(GgufFile part, const GgufLimits& limits);
  StatusOr<const Value*> Get(std::string_view key) const;
  Status WrongType(std::string_view key, const Value& value, std::string_view wanted) const;

  std::string name_;
  uint32_t version_ = 0;
  std::shared_ptr<const MappedFile> file_;
  std::map<std::string_view, Value> values_;
  std::vector<TensorView> tensors_;
  std::map<std::string_view, size_t> tensor_index_;  // views of the files, not of tensors_
};

}  // namespace coterie

#endif  // COTERIE_MODEL_FORMAT_GGUF_H_
