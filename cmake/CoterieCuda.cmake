# Device code. Its .cu files have two compilers: nvcc for GPUs, and the C++ compiler, which makes of them a GPU emulated
# on the CPU (tests/gpu/emulation).
#   COTERIE_CUDA  AUTO: ON where nvcc is, else OFF
#                 ON: for the GPUs of COTERIE_CUDA_ARCHITECTURES
#                 EMULATED: `--device cuda:0` is the emulation; needs no CUDA toolkit
#                 OFF: CPUs only
set(COTERIE_CUDA AUTO CACHE STRING "AUTO, ON, EMULATED or OFF")
set(COTERIE_CUDA_ARCHITECTURES 90a CACHE STRING "Compute capabilities to compile for: 80;89;90a;100")

if(COTERIE_CUDA STREQUAL AUTO)
  include(CheckLanguage)
  check_language(CUDA)
  set(COTERIE_CUDA_MODE OFF)
  if(CMAKE_CUDA_COMPILER AND NOT COTERIE_SANITIZE AND NOT COTERIE_FUZZERS)
    set(COTERIE_CUDA_MODE ON)
  endif()
else()
  set(COTERIE_CUDA_MODE ${COTERIE_CUDA})
endif()
if(COTERIE_CUDA_MODE STREQUAL ON)
  set(CMAKE_CUDA_ARCHITECTURES OFF)  # given below, file by file: CMake 3.25 knows neither 90a nor C++20 for CUDA
  enable_language(CUDA)
endif()

# coterie_device_code(<target>): how the target's .cu files are compiled.
function(coterie_device_code target)
  get_target_property(sources ${target} SOURCES)
  list(FILTER sources INCLUDE REGEX "\\.cu$")
  if(COTERIE_CUDA_MODE STREQUAL ON)
    set(architectures "")
    foreach(one IN LISTS COTERIE_CUDA_ARCHITECTURES)
      list(APPEND architectures "-gencode=arch=compute_${one},code=sm_${one}")
    endforeach()
    # No fused multiply-adds but those that are written out: the emulation then adds up the same sums.
    set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS
      "-std=c++20;-fmad=false;--expt-relaxed-constexpr;-Xptxas=-v;-lineinfo;-Xcompiler=-Wno-unused-parameter;${architectures}")
  else()
    set_source_files_properties(${sources} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-xc++;-Wno-unknown-pragmas"
                                SKIP_PRECOMPILE_HEADERS ON)
    target_link_libraries(${target} PUBLIC coterie_gpu_emulation)
  endif()
endfunction()
