#include <dlfcn.h>

#include "common/quoted.h"
#include "kernels/comm/nccl.h"

namespace coterie {
#ifdef COTERIE_WITH_NCCL
namespace {

// Kept open for good: NCCL has threads of its own.
void* Open(const char* name, Status* status) {
  void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): glibc keeps what went wrong for each thread
  const char* wrong = library == nullptr ? dlerror() : nullptr;
  if (library == nullptr && status->ok()) {
    *status = absl::UnavailableError(absl::StrCat("communicators between GPUs want ", name, ": ",
                                                  Shown(wrong == nullptr ? "it does not load" : wrong)));
  }
  return library;
}

template <typename Function>
void Find(void* library, const char* name, Function* function, Status* status) {
  if (library == nullptr) return;
  *function = reinterpret_cast<Function>(dlsym(library, name));
  if (*function == nullptr && status->ok()) {
    *status = absl::UnavailableError(absl::StrCat("the installed library has no ", name, "; NCCL 2.14 has"));
  }
}

}  // namespace

StatusOr<nccl::Calls> LoadNccl(const std::string& path) {
  Status status;
  nccl::Calls calls;
  void* nccl = Open(path.empty() ? "libnccl.so.2" : path.c_str(), &status);
  Find(nccl, "ncclGetVersion", &calls.get_version, &status);
  Find(nccl, "ncclGetUniqueId", &calls.get_unique_id, &status);
  Find(nccl, "ncclCommInitRankConfig", &calls.comm_init_rank_config, &status);
  Find(nccl, "ncclCommGetAsyncError", &calls.comm_get_async_error, &status);
  Find(nccl, "ncclCommFinalize", &calls.comm_finalize, &status);
  Find(nccl, "ncclCommDestroy", &calls.comm_destroy, &status);
  Find(nccl, "ncclCommAbort", &calls.comm_abort, &status);
  Find(nccl, "ncclGetErrorString", &calls.get_error_string, &status);
  Find(nccl, "ncclGroupStart", &calls.group_start, &status);
  Find(nccl, "ncclGroupEnd", &calls.group_end, &status);
  Find(nccl, "ncclAllReduce", &calls.all_reduce, &status);
  Find(nccl, "ncclAllGather", &calls.all_gather, &status);
  Find(nccl, "ncclBroadcast", &calls.broadcast, &status);
  Find(nccl, "ncclSend", &calls.send, &status);
  Find(nccl, "ncclRecv", &calls.recv, &status);
  void* cuda = Open("libcuda.so.1", &status);
  Find(cuda, "cuEventCreate", &calls.event_create, &status);
  Find(cuda, "cuEventRecord", &calls.event_record, &status);
  Find(cuda, "cuEventQuery", &calls.event_query, &status);
  Find(cuda, "cuEventDestroy_v2", &calls.event_destroy, &status);
  if (!status.ok()) return status;
  return calls;
}

#else

StatusOr<nccl::Calls> LoadNccl(const std::string&) {
  return absl::UnimplementedError("this binary was built without NCCL; build again with COTERIE_NCCL=ON");
}

#endif

}  // namespace coterie
