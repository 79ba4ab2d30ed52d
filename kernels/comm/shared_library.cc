#include "kernels/comm/shared_library.h"

#include <dlfcn.h>

#include "common/quoted.h"

namespace coterie {

SharedLibrary::SharedLibrary(const char* name, const char* purpose, Status* status)
    : name_(name), status_(status), library_(dlopen(name, RTLD_NOW | RTLD_LOCAL)) {
  if (library_ != nullptr || !status_->ok()) return;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): glibc keeps what went wrong for each thread
  const char* wrong = dlerror();
  *status_ = absl::UnavailableError(absl::StrCat(purpose, " want ", Shown(name), ": ",
                                                 Shown(wrong == nullptr ? "it does not load" : wrong)));
}

void* SharedLibrary::Address(const char* name) {
  if (library_ == nullptr) return nullptr;
  void* const found = dlsym(library_, name);
  if (found == nullptr && status_->ok()) {
    *status_ = absl::UnavailableError(
        absl::StrCat("the installed ", Shown(name_), " has no ", name, "; install a newer one"));
  }
  return found;
}

}  // namespace coterie
