#include "router/canary.h"

#include <cstdint>

#include "common/digest.h"
#include "common/random.h"

namespace coterie {

bool TakesCanary(std::string_view key, std::string_view name, double share) {
  if (!(share > 0)) return false;
  const Digest digest = Hasher().UpdateField("coterie/canary/1").UpdateField(name).UpdateField(key).Finish();
  uint64_t bits = 0;
  for (size_t i = 0; i < sizeof(bits); ++i) bits = bits << 8 | digest.bytes()[i];
  return ToUnitInterval(bits) < share;
}

}  // namespace coterie
