// Gloo asks for the other end's address right after it has accepted a connection, on its own thread, and
// throws when there is none: one that connects and resets at once (a scan of ports, a health check, a member
// that gives up) would end this process. So where libgloo asks, a connection without another end has an empty
// address; its first read then fails as it should. To everybody else in the process this is the system's
// function.
#ifdef COTERIE_WITH_GLOO
#include <dlfcn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kernels/comm/gloo_mesh.h"

extern "C" int getpeername(int fd, sockaddr* address, socklen_t* n_bytes) noexcept {
  const int result = static_cast<int>(syscall(SYS_getpeername, fd, address, n_bytes));
  if (result == 0 || errno != ENOTCONN) return result;
  Dl_info caller = {};
  const bool is_gloo = dladdr(__builtin_return_address(0), &caller) != 0 && caller.dli_fname != nullptr &&
                       std::strstr(caller.dli_fname, "libgloo") != nullptr;
  errno = ENOTCONN;
  if (!is_gloo) return result;
  std::memset(address, 0, std::min<size_t>(*n_bytes, sizeof(sockaddr)));
  return 0;
}

namespace coterie {

bool GlooAsksUsForPeers() {
  return dlsym(RTLD_DEFAULT, "getpeername") == reinterpret_cast<void*>(&getpeername);
}

}  // namespace coterie
#endif
