#ifndef COTERIE_COMMON_CONTENT_KIND_H_
#define COTERIE_COMMON_CONTENT_KIND_H_

#include <string>
#include <string_view>

#include "common/status.h"

namespace coterie {

// What a file was meant to hold.
enum class Content {
  kSafetensors,
  kGguf,
  kJson,
  kYaml,
};

// What `bytes` (a file, or at least its first 512 bytes) plainly are instead, and what to do: "is a Git LFS
// pointer ..., not the file itself; fetch it with `git lfs pull`". Empty where nothing is certain.
// Thread-safe.
std::string WrongContent(Content expected, std::string_view bytes);

// A parser's refusal of `bytes` out of the file `name`: where they are plainly something else, that is said
// first. Downloads fail in few ways, and a parser's own words for a web page ("header length is
// 7233181886539775548") help nobody.
Status ExplainRefusal(const Status& refusal, Content expected, std::string_view bytes, std::string_view name);

}  // namespace coterie

#endif  // COTERIE_COMMON_CONTENT_KIND_H_
