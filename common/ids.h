#ifndef COTERIE_COMMON_IDS_H_
#define COTERIE_COMMON_IDS_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "common/digest.h"
#include "common/status.h"

namespace coterie {

// The name of an expert, as a person types it: [a-z0-9][a-z0-9._-]{0,63}, and neither "auto" nor "base".
inline constexpr size_t kMaxExpertNameBytes = 64;
// A shorter prefix of a digest is more likely a typing mistake than a choice.
inline constexpr size_t kMinDigestPrefixDigits = 8;

// InvalidArgument naming the text and what is wrong with it.
Status ValidateExpertName(std::string_view name);

// One version of one expert.
struct ExpertRef {
  std::string name;
  Digest digest;    // of the adapter (configuration and weights): part of every KV key
  Digest revision;  // of the card and the prototypes: may change while the weights stay

  bool operator==(const ExpertRef&) const = default;
};

// Whom a request asks for.
struct ExpertSelector {
  enum class Kind {
    kAuto,     // the router decides
    kBase,     // no adapter
    kNamed,    // `name`, in the live version or in the one `digest_prefix` names
    kMembers,  // several at once, each with a selector of its own; no text parses to it
  };
  Kind kind = Kind::kAuto;
  std::string name;           // kNamed only
  std::string digest_prefix;  // kNamed only: 8 to 64 lower-case hexadecimal digits; empty: the live version

  bool operator==(const ExpertSelector&) const = default;
};

// "auto" (also the empty text), "base", "<name>" or "<name>@<digest or prefix of it>". InvalidArgument
// otherwise.
StatusOr<ExpertSelector> ParseExpertSelector(std::string_view text);
// The text that parses to `selector`.
std::string ToString(const ExpertSelector& selector);

}  // namespace coterie

#endif  // COTERIE_COMMON_IDS_H_
