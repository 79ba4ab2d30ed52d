#ifndef COTERIE_COMMON_VERSION_H_
#define COTERIE_COMMON_VERSION_H_

namespace coterie {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace coterie

#endif  // COTERIE_COMMON_VERSION_H_
