#include "model/format/gguf.h"

#include <cstring>

#include "common/quoted.h"
#include "model/format/gguf_scalar.h"

namespace coterie {
namespace {

std::string_view TypeName(GgufType type) {
  constexpr std::string_view kNames[] = {"uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
                                         "bool",  "string", "array",  "uint64", "int64",  "float64"};
  return kNames[static_cast<uint32_t>(type)];
}

template <typename T>
T Load(const uint8_t* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// False when the type is no integer or an unsigned value does not fit.
bool LoadInt(GgufType type, const uint8_t* p, int64_t* out) {
  switch (type) {
    case GgufType::kU8:
      *out = *p;
      return true;
    case GgufType::kI8:
      *out = static_cast<int8_t>(*p);  // NOLINT(bugprone-signed-char-misuse): a number, with its sign
      return true;
    case GgufType::kU16:
      *out = Load<uint16_t>(p);
      return true;
    case GgufType::kI16:
      *out = Load<int16_t>(p);
      return true;
    case GgufType::kU32:
      *out = Load<uint32_t>(p);
      return true;
    case GgufType::kI32:
      *out = Load<int32_t>(p);
      return true;
    case GgufType::kU64: {
      const uint64_t v = Load<uint64_t>(p);
      *out = static_cast<int64_t>(v);
      return v <= static_cast<uint64_t>(INT64_MAX);
    }
    case GgufType::kI64:
      *out = Load<int64_t>(p);
      return true;
    default:
      return false;
  }
}

bool LoadFloat(GgufType type, const uint8_t* p, double* out) {
  if (type == GgufType::kF32) {
    *out = static_cast<double>(Load<float>(p));
    return true;
  }
  if (type == GgufType::kF64) {
    *out = Load<double>(p);
    return true;
  }
  int64_t integer;
  if (!LoadInt(type, p, &integer)) return false;
  *out = static_cast<double>(integer);
  return true;
}

}  // namespace

std::vector<std::string_view> GgufFile::Keys() const {
  std::vector<std::string_view> keys;
  keys.reserve(values_.size());
  for (const auto& [key, value] : values_) keys.push_back(key);
  return keys;
}

StatusOr<const GgufFile::Value*> GgufFile::Get(std::string_view key) const {
  const auto it = values_.find(key);
  if (it == values_.end()) return absl::NotFoundError(absl::StrCat(name_, ": no metadata key ", Quoted(key)));
  return &it->second;
}

Status GgufFile::WrongType(std::string_view key, const Value& value, std::string_view wanted) const {
  return absl::InvalidArgumentError(absl::StrCat(
      name_, ": metadata key ", Quoted(key), " is ", ToAbsl(TypeName(value.type)),
      value.type == GgufType::kArray ? absl::StrCat(" of ", ToAbsl(TypeName(value.element_type))) : "",
      ", expected ", ToAbsl(wanted)));
}

StatusOr<std::string_view> GgufFile::GetString(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* value, Get(key));
  if (value->type != GgufType::kString) return WrongType(key, *value, "string");
  return std::string_view(reinterpret_cast<const char*>(value->raw.data()), value->raw.size());
}

StatusOr<bool> GgufFile::GetBool(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* value, Get(key));
  if (value->type != GgufType::kBool) return WrongType(key, *value, "bool");
  return value->raw[0] != 0;
}

StatusOr<int64_t> GgufFile::GetInt(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* value, Get(key));
  int64_t out;
  if (!LoadInt(value->type, value->raw.data(), &out)) return WrongType(key, *value, "an integer below 2^63");
  return out;
}

StatusOr<double> GgufFile::GetFloat(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* value, Get(key));
  double out;
  if (!LoadFloat(value->type, value->raw.data(), &out)) return WrongType(key, *value, "a number");
  return out;
}

StatusOr<bool> GgufFile::IsArray(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* value, Get(key));
  return value->type == GgufType::kArray;
}

StatusOr<std::vector<std::string_view>> GgufFile::GetStrings(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* value, Get(key));
  if (value->type != GgufType::kArray || value->element_type != GgufType::kString) {
    return WrongType(key, *value, "array of string");
  }
  std::vector<std::string_view> out;
  out.reserve(value->n_elements);
  const uint8_t* p = value->raw.data();  // the parser has walked every length
  for (uint64_t i = 0; i < value->n_elements; ++i) {
    const uint64_t length = Load<uint64_t>(p);
    out.emplace_back(reinterpret_cast<const char*>(p + 8), length);
    p += 8 + length;
  }
  return out;
}

StatusOr<std::vector<int64_t>> GgufFile::GetInts(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* value, Get(key));
  if (value->type != GgufType::kArray) return WrongType(key, *value, "array of integers");
  std::vector<int64_t> out(value->n_elements);
  for (uint64_t i = 0; i < value->n_elements; ++i) {
    if (!LoadInt(value->element_type, value->raw.data() + i * GgufScalarBytes(value->element_type),
                 &out[i])) {
      return WrongType(key, *value, "array of integers below 2^63");
    }
  }
  return out;
}

StatusOr<std::vector<float>> GgufFile::GetFloats(std::string_view key) const {
  ASSIGN_OR_RETURN(const Value* value, Get(key));
  if (value->type != GgufType::kArray) return WrongType(key, *value, "array of numbers");
  std::vector<float> out(value->n_elements);
  for (uint64_t i = 0; i < value->n_elements; ++i) {
    double element;
    if (!LoadFloat(value->element_type, value->raw.data() + i * GgufScalarBytes(value->element_type),
                   &element)) {
      return WrongType(key, *value, "array of numbers");
    }
    out[i] = static_cast<float>(element);
  }
  return out;
}

const TensorView* GgufFile::Find(std::string_view name) const {
  const auto it = tensor_index_.find(name);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

}  // namespace coterie
