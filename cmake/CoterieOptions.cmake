set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Release, Debug or RelWithDebInfo" FORCE)
endif()

# The compiler must not fuse a*b+c on its own nor reorder sums: docs/numerics.md fixes one order of
# operations and writes every fused multiply-add out. -O2 keeps assertions out of the step loop;
# CHECK (common/check.h) stays in every build.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")
set(cxx_options -ffp-contract=off -fno-math-errno -Wall -Wextra -Werror -Wno-unused-parameter
                -Wno-missing-field-initializers)
add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:${cxx_options}>")
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  add_compile_options(-Wthread-safety)
endif()

set(COTERIE_SANITIZE "" CACHE STRING "address,undefined or thread")
if(COTERIE_SANITIZE)
  # -O1 stands after the build type's -O2 and wins: instrumented code compiles in half the time.
  add_compile_options(-O1 -fsanitize=${COTERIE_SANITIZE} -fno-omit-frame-pointer -g1
                      -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${COTERIE_SANITIZE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # gcc 12 loses sight of variants and optionals behind the sanitizers' calls; the release build keeps the warning.
    add_compile_options(-Wno-maybe-uninitialized)
    if(COTERIE_SANITIZE MATCHES "thread")
      # The thread sanitizer does not see fences, and Asio has some; it orders its work by mutexes besides.
      add_compile_options(-Wno-tsan)
    endif()
  endif()
endif()

find_program(COTERIE_CCACHE ccache)
if(COTERIE_CCACHE)
  # Precompiled headers are cached only when ccache may overlook their time stamps; the base
  # directory makes hits survive a move of the checkout.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${COTERIE_CCACHE})
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
endif()
