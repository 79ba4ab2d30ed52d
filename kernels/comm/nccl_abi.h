#ifndef COTERIE_KERNELS_COMM_NCCL_ABI_H_
#define COTERIE_KERNELS_COMM_NCCL_ABI_H_

#include <cstddef>
#include <cstdint>

#include "kernels/comm/driver_calls.h"

// What we use of NCCL's C interface, as a table of functions. Declared here and not
// taken from their headers, so that every build has the backend and tests can put a stand-in under it;
// nccl_library.cc fills the table at run time, and nccl_abi_check.cc compares with the headers where the
// build finds them.
namespace coterie::nccl {

using Comm = struct OpaqueComm*;
using Stream = DriverCalls::Stream;
using Event = DriverCalls::Event;

struct UniqueId {
  char bytes[128];
};

enum Result : int {
  kSuccess = 0,
  kUnhandledCudaError = 1,
  kSystemError = 2,
  kInternalError = 3,
  kInvalidArgument = 4,
  kInvalidUsage = 5,
  kRemoteError = 6,
  kInProgress = 7,
};

enum DataType : int { kUint8 = 1, kInt32 = 2, kFloat16 = 6, kFloat32 = 7, kBfloat16 = 9 };
enum RedOp : int { kSum = 0, kMax = 2 };

// As it was when it could first say "do not block" (2.14); newer libraries take older ones by size and
// version.
struct Config {
  size_t size = sizeof(Config);
  unsigned int magic = 0xcafebeef;
  unsigned int version = 2 * 10000 + 14 * 100;
  int blocking = 0;
};

struct Calls {
  // libnccl
  Result (*get_version)(int* version) = nullptr;
  Result (*get_unique_id)(UniqueId* id) = nullptr;
  Result (*comm_init_rank_config)(Comm* comm, int size, UniqueId id, int rank, Config* config) = nullptr;
  Result (*comm_get_async_error)(Comm comm, Result* error) = nullptr;
  Result (*comm_finalize)(Comm comm) = nullptr;
  Result (*comm_destroy)(Comm comm) = nullptr;
  Result (*comm_abort)(Comm comm) = nullptr;
  const char* (*get_error_string)(Result result) = nullptr;
  const char* (*get_last_error)(Comm comm) =
      nullptr;  // of this process, in more words; the handle may be null
  Result (*group_start)() = nullptr;
  Result (*group_end)() = nullptr;
  Result (*all_reduce)(const void*, void*, size_t count, DataType, RedOp, Comm, Stream) = nullptr;
  Result (*all_gather)(const void*, void*, size_t count, DataType, Comm, Stream) = nullptr;
  Result (*broadcast)(const void*, void*, size_t count, DataType, int root, Comm, Stream) = nullptr;
  Result (*send)(const void*, size_t count, DataType, int peer, Comm, Stream) = nullptr;
  Result (*recv)(void*, size_t count, DataType, int peer, Comm, Stream) = nullptr;

  DriverCalls driver;
};

}  // namespace coterie::nccl

#endif  // COTERIE_KERNELS_COMM_NCCL_ABI_H_
