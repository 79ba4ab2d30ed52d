#ifndef COTERIE_MODEL_TEXT_JSON_COMPONENTS_H_
#define COTERIE_MODEL_TEXT_JSON_COMPONENTS_H_

#include <memory>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "model/text/normalizer.h"
#include "model/text/pre_tokenizer.h"
#include "model/text/token_decoder.h"
#include "nlohmann/json.hpp"

// The components of tokenizer.json, each an object with a "type". A type or a value that is not known is
// refused by name (Unimplemented); a missing or ill-typed field is InvalidArgument.
namespace coterie::text {

using Json = nlohmann::json;

// The fields of one component; errors name it.
class Fields {
 public:
  // `json` must outlive this.
  static StatusOr<Fields> Of(const Json& json, std::string_view what);
  const std::string& type() const { return type_; }
  StatusOr<bool> Bool(const char* name) const;
  StatusOr<bool> BoolOr(const char* name, bool otherwise) const;  // absent or null: otherwise
  StatusOr<std::string> String(const char* name) const;
  StatusOr<size_t> Size(const char* name) const;    // 0 to 2^31
  StatusOr<char32_t> Rune(const char* name) const;  // a string of one character
  StatusOr<const Json*> Array(const char* name) const;
  const Json* Find(const char* name) const;  // null when absent or null
  Status Unknown() const;                    // this type is not known
  Status Bad(std::string_view name, std::string_view want) const;

 private:
  Fields(const Json* json, std::string what) : json_(json), what_(std::move(what)) {}
  const Json* json_;
  std::string what_;  // "normalizer Replace"
  std::string type_;
};

// Null json gives a null component.
StatusOr<NormalizerPtr> ParseNormalizer(const Json& json);
StatusOr<PreTokenizerPtr> ParsePreTokenizer(const Json& json);
StatusOr<std::vector<DecoderStep>> ParseDecoder(const Json& json);

}  // namespace coterie::text

#endif  // COTERIE_MODEL_TEXT_JSON_COMPONENTS_H_
