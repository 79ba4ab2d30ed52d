#ifndef COTERIE_KERNELS_COMM_SHARED_LIBRARY_H_
#define COTERIE_KERNELS_COMM_SHARED_LIBRARY_H_

#include "common/status.h"

namespace coterie {

// A library of this machine, loaded when it is first wanted and kept for good, since it may have threads of
// its own. The first thing that is missing becomes the status.
class SharedLibrary {
 public:
  // `purpose` begins the message: "communicators between GPUs".
  SharedLibrary(const char* name, const char* purpose, Status* status);

  template <typename Function>
  void Find(const char* name, Function* function) {
    *function = reinterpret_cast<Function>(Address(name));
  }

 private:
  void* Address(const char* name);

  const char* const name_;
  Status* const status_;
  void* library_ = nullptr;
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_SHARED_LIBRARY_H_
