#include "kernels/comm/nccl.h"
#include "kernels/comm/shared_library.h"

namespace coterie {
#ifdef COTERIE_WITH_NCCL

StatusOr<nccl::Calls> LoadNccl(const std::string& path) {
  Status status;
  nccl::Calls calls;
  const char* const name = path.empty() ? "libnccl.so.2" : path.c_str();
  SharedLibrary nccl(name, "communicators between GPUs", &status);
  nccl.Find("ncclGetVersion", &calls.get_version);
  nccl.Find("ncclGetUniqueId", &calls.get_unique_id);
  nccl.Find("ncclCommInitRankConfig", &calls.comm_init_rank_config);
  nccl.Find("ncclCommGetAsyncError", &calls.comm_get_async_error);
  nccl.Find("ncclCommFinalize", &calls.comm_finalize);
  nccl.Find("ncclCommDestroy", &calls.comm_destroy);
  nccl.Find("ncclCommAbort", &calls.comm_abort);
  nccl.Find("ncclGetErrorString", &calls.get_error_string);
  nccl.Find("ncclGetLastError", &calls.get_last_error);
  nccl.Find("ncclGroupStart", &calls.group_start);
  nccl.Find("ncclGroupEnd", &calls.group_end);
  nccl.Find("ncclAllReduce", &calls.all_reduce);
  nccl.Find("ncclAllGather", &calls.all_gather);
  nccl.Find("ncclBroadcast", &calls.broadcast);
  nccl.Find("ncclSend", &calls.send);
  nccl.Find("ncclRecv", &calls.recv);
  if (!status.ok()) return status;
  ASSIGN_OR_RETURN(calls.driver, LoadDriver());
  return calls;
}

#else

StatusOr<nccl::Calls> LoadNccl(const std::string&) {
  return absl::UnimplementedError("this binary was built without NCCL; build again with COTERIE_NCCL=ON");
}

#endif

}  // namespace coterie
