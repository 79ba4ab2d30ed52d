// Where the build finds NCCL's header: that nccl_abi.h says the same.
#ifdef COTERIE_HAS_NCCL_H
#include <nccl.h>

#include <type_traits>

#include "kernels/comm/nccl_abi.h"

namespace coterie::nccl {

static_assert(sizeof(UniqueId) == sizeof(ncclUniqueId));
static_assert(int{kSuccess} == int{ncclSuccess} && int{kInProgress} == int{ncclInProgress});
static_assert(int{kUnhandledCudaError} == int{ncclUnhandledCudaError} &&
              int{kSystemError} == int{ncclSystemError});
static_assert(int{kInternalError} == int{ncclInternalError} && int{kInvalidUsage} == int{ncclInvalidUsage});
static_assert(int{kInvalidArgument} == int{ncclInvalidArgument} && int{kRemoteError} == int{ncclRemoteError});
static_assert(int{kUint8} == int{ncclUint8} && int{kInt32} == int{ncclInt32});
static_assert(int{kFloat16} == int{ncclFloat16} && int{kFloat32} == int{ncclFloat32});
static_assert(int{kBfloat16} == int{ncclBfloat16});
static_assert(int{kSum} == int{ncclSum} && int{kMax} == int{ncclMax});
static_assert(offsetof(Config, magic) == offsetof(ncclConfig_t, magic));
static_assert(offsetof(Config, version) == offsetof(ncclConfig_t, version));
static_assert(offsetof(Config, blocking) == offsetof(ncclConfig_t, blocking));

// Pointers, enums and plain structs travel alike whatever they are called; counts and integers must be the
// same types.
static_assert(std::is_same_v<decltype(&ncclGetLastError), const char* (*)(ncclComm_t)>);
static_assert(std::is_invocable_r_v<ncclResult_t, decltype(&ncclAllReduce), const void*, void*, size_t,
                                    ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t>);
static_assert(std::is_same_v<decltype(&ncclSend), ncclResult_t (*)(const void*, size_t, ncclDataType_t, int,
                                                                   ncclComm_t, cudaStream_t)>);
static_assert(std::is_same_v<decltype(&ncclRecv),
                             ncclResult_t (*)(void*, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t)>);
static_assert(
    std::is_same_v<decltype(&ncclBroadcast), ncclResult_t (*)(const void*, void*, size_t, ncclDataType_t, int,
                                                              ncclComm_t, cudaStream_t)>);
static_assert(std::is_same_v<decltype(&ncclCommInitRankConfig),
                             ncclResult_t (*)(ncclComm_t*, int, ncclUniqueId, int, ncclConfig_t*)>);

}  // namespace coterie::nccl
#endif
