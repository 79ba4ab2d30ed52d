# NCCL's header and, which it includes, CUDA's: they are only compared with what we declare ourselves (kernels/comm/nccl_abi.h).
#   NCCL_INCLUDE_DIRS, NCCL_FOUND
find_path(NCCL_INCLUDE_DIR nccl.h PATHS /usr/local/cuda/include)
find_path(NCCL_CUDA_INCLUDE_DIR cuda_runtime.h PATHS /usr/local/cuda/include)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(NCCL REQUIRED_VARS NCCL_INCLUDE_DIR NCCL_CUDA_INCLUDE_DIR)
set(NCCL_INCLUDE_DIRS ${NCCL_INCLUDE_DIR} ${NCCL_CUDA_INCLUDE_DIR})
mark_as_advanced(NCCL_INCLUDE_DIR NCCL_CUDA_INCLUDE_DIR)
