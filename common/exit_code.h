#ifndef COTERIE_COMMON_EXIT_CODE_H_
#define COTERIE_COMMON_EXIT_CODE_H_

namespace coterie {

// How a worker ends whose device was lost, after its answers were handed over: start it again, and look at
// the device where that does not help. (EX_TEMPFAIL of sysexits.h.)
inline constexpr int kDeviceLostExitCode = 75;

}  // namespace coterie

#endif  // COTERIE_COMMON_EXIT_CODE_H_
