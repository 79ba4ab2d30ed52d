#ifndef COTERIE_GATEWAY_CORE_VERSION_H_
#define COTERIE_GATEWAY_CORE_VERSION_H_

namespace coterie::gateway {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_CORE_VERSION_H_
