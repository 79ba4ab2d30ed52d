#ifndef COTERIE_ROUTER_CANARY_H_
#define COTERIE_ROUTER_CANARY_H_

#include <string_view>

namespace coterie {

// Whether the request with this key (its trace id) goes to the canary of the expert `name`, which gets
// `share` of that name's requests. A hash of both is compared with the share: every gateway decides alike and
// keeps no state, what carries one trace id meets one version, a growing share only adds requests, and the
// canaries of several experts meet different requests. A share outside (0, 1) is none, or all.
bool TakesCanary(std::string_view key, std::string_view name, double share);

}  // namespace coterie

#endif  // COTERIE_ROUTER_CANARY_H_
