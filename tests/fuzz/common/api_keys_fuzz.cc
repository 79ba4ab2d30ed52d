// Any bytes as a keys file: what is accepted survives being written and read again, and no error shows what
// may be a key.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/strings/match.h"
#include "common/api_keys.h"
#include "common/check.h"
#include "common/name_patterns.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace coterie;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const StatusOr<std::vector<ApiKey>> keys = ParseApiKeys(text, "keys.json");
  if (!keys.ok()) {
    COTERIE_CHECK(absl::StartsWith(keys.status().message(), "keys.json")) << keys.status();
    return 0;
  }
  const StatusOr<std::vector<ApiKey>> again = ParseApiKeys(PrintApiKeys(*keys), "again");
  COTERIE_CHECK(again.ok()) << again.status();
  COTERIE_CHECK(*again == *keys);
  for (const ApiKey& key : *keys) {
    COTERIE_CHECK(ValidateApiKey(key).ok());
    if (key.experts) (void)NamePatterns(*key.experts).Match("some-expert");
  }
  return 0;
}
