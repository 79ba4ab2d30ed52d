# Device code. Its .cu files have two compilers: nvcc for GPUs, and the C++ compiler, which makes of them a GPU emulated
# on the CPU (tests/gpu/emulation).
#   COTERIE_CUDA  AUTO: ON where nvcc 12 or later is, and gcc compiles the rest; else OFF
#                 ON: for the GPUs of COTERIE_CUDA_ARCHITECTURES
#                 EMULATED: `--device cuda:0` is the emulation; needs no CUDA toolkit
#                 OFF: CPUs only
# nvcc is looked for in PATH, $CUDACXX, $CUDA_HOME and /usr/local/cuda; -DCMAKE_CUDA_COMPILER=<path> names another.
set(COTERIE_CUDA AUTO CACHE STRING "AUTO, ON, EMULATED or OFF")
set_property(CACHE COTERIE_CUDA PROPERTY STRINGS AUTO ON EMULATED OFF)
set(COTERIE_CUDA_ARCHITECTURES 90a CACHE STRING "Compute capabilities to compile for: 80;89;90a;100")

if(NOT CMAKE_CUDA_COMPILER AND "$ENV{CUDACXX}" STREQUAL "")
  find_program(COTERIE_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(COTERIE_NVCC)
    unset(CMAKE_CUDA_COMPILER CACHE)  # that none was found before
    set(ENV{CUDACXX} ${COTERIE_NVCC})
  endif()
endif()
set(CMAKE_CUDA_ARCHITECTURES OFF)  # given below, file by file: CMake 3.25 doesn't know 90a

if(COTERIE_CUDA STREQUAL AUTO)
  set(COTERIE_CUDA_MODE OFF)
  # The sanitizers see nothing of a GPU, and nvcc wants a host compiler of its own choice: gcc.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT COTERIE_SANITIZE AND NOT COTERIE_FUZZERS)
    include(CheckLanguage)
    check_language(CUDA)  # an nvcc that cannot compile (half a toolkit, a gcc it does not know) is none
    if(CMAKE_CUDA_COMPILER)
      enable_language(CUDA)
      if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
        message(STATUS "COTERIE_CUDA: OFF, since ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION} knows no C++20 (12.0 does)")
      else()
        set(COTERIE_CUDA_MODE ON)
      endif()
    endif()
  endif()
elseif(COTERIE_CUDA STREQUAL ON)
  if(COTERIE_SANITIZE OR COTERIE_FUZZERS)
    message(FATAL_ERROR "COTERIE_CUDA=ON: sanitizers see nothing of a GPU; take COTERIE_CUDA=EMULATED, which they watch")
  endif()
  if(NOT CMAKE_CUDA_COMPILER AND "$ENV{CUDACXX}" STREQUAL "")
    message(FATAL_ERROR "COTERIE_CUDA=ON: no nvcc in PATH, CUDACXX, CUDA_HOME or /usr/local/cuda; name it by "
                        "-DCMAKE_CUDA_COMPILER=<path>, or take COTERIE_CUDA=EMULATED, which needs none")
  endif()
  enable_language(CUDA)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
    message(FATAL_ERROR "COTERIE_CUDA=ON: ${CMAKE_CUDA_COMPILER} is version ${CMAKE_CUDA_COMPILER_VERSION}; 12.0 or later knows C++20")
  endif()
  set(COTERIE_CUDA_MODE ON)
elseif(COTERIE_CUDA MATCHES "^(EMULATED|OFF)$")
  set(COTERIE_CUDA_MODE ${COTERIE_CUDA})
else()
  message(FATAL_ERROR "COTERIE_CUDA is '${COTERIE_CUDA}'; it may be AUTO, ON, EMULATED or OFF")
endif()
message(STATUS "COTERIE_CUDA: ${COTERIE_CUDA_MODE}")

if(COTERIE_CUDA_MODE STREQUAL ON)
  find_package(CUDAToolkit REQUIRED)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O2 -DNDEBUG")
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # CMake 3.25 doesn't know that nvcc 12 has it
  # Beside each object lies what ptxas said of its kernels: registers, spills, shared memory (tests/gpu/resources.py).
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_SOURCE_DIR}/cmake/keep_ptxas ${CMAKE_CXX_COMPILER_LAUNCHER})
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
    # No fused multiply-adds but those that are written out: the emulation then adds up the same sums. A warning of nvcc
    # is an error as gcc's is; gcc gets its own no warnings for what nvcc makes of our sources.
    set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS
      "-fmad=false;--expt-relaxed-constexpr;-Xptxas=-v;-lineinfo;-Werror=all-warnings;-Xcompiler=-ffp-contract=off;${architectures}")
    target_link_libraries(${target} PUBLIC CUDA::cudart_static)
  else()
    # Kernels read memory as other types than it was written as, which nvcc allows. What a CPU reads in halves, a GPU refuses
    # where it is not aligned.
    set(aligned "")
    if(NOT COTERIE_SANITIZE)
      set(aligned "-fsanitize=alignment;-fno-sanitize-recover=alignment")
      target_link_options(${target} PUBLIC -fsanitize=alignment)
    endif()
    set_source_files_properties(${sources} PROPERTIES LANGUAGE CXX
                                COMPILE_OPTIONS "-xc++;-Wno-unknown-pragmas;-fno-strict-aliasing;${aligned}"
                                SKIP_PRECOMPILE_HEADERS ON)
    target_link_libraries(${target} PUBLIC coterie_gpu_emulation)
  endif()
endfunction()
