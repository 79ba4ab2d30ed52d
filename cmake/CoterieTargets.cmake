# A folder is a library: its sources are what stands in it (and below), so that adding a file needs
# no line here. CONFIGURE_DEPENDS makes the build notice.

# Precompiled headers, built once each and shared: most of a cold build is reading the same third-party headers.
#   coterie_pch(<plain|grpc|test|test_grpc> <header>...)
function(coterie_pch kind)
  cmake_parse_arguments(ARG "" "" "HEADERS;DEPS;OPTIONS" ${ARGN})
  file(WRITE ${CMAKE_BINARY_DIR}/pch/${kind}.cc "")
  add_library(coterie_pch_${kind} OBJECT ${CMAKE_BINARY_DIR}/pch/${kind}.cc)
  target_precompile_headers(coterie_pch_${kind} PRIVATE ${ARG_HEADERS})
  target_compile_options(coterie_pch_${kind} PRIVATE ${ARG_OPTIONS})
  target_link_libraries(coterie_pch_${kind} PRIVATE ${ARG_DEPS} Threads::Threads)
endfunction()

set(plain_headers <algorithm> <cstdint> <filesystem> <memory> <string> <vector> <absl/status/statusor.h>
                  <absl/strings/str_cat.h>)
set(grpc_headers <grpcpp/grpcpp.h>)
set(test_headers <gtest/gtest.h> <gmock/gmock.h> <nlohmann/json.hpp>)
# Tests are compiled quickly: what they try is in the libraries.
set(test_options -O1)
coterie_pch(plain HEADERS ${plain_headers} DEPS absl::statusor absl::strings)
coterie_pch(grpc HEADERS ${plain_headers} ${grpc_headers} DEPS gRPC::grpc++)
if(COTERIE_TESTS)
  coterie_pch(test HEADERS ${plain_headers} ${test_headers} DEPS absl::statusor absl::strings GTest::gmock
              nlohmann_json::nlohmann_json OPTIONS ${test_options})
  coterie_pch(test_grpc HEADERS ${plain_headers} ${grpc_headers} ${test_headers} DEPS gRPC::grpc++ GTest::gmock
              nlohmann_json::nlohmann_json OPTIONS ${test_options})
endif()

# coterie_library(<folder> [PCH <plain|grpc>] DEPS <target>...)
#   -> library coterie_<folder> from every .cc below the folder, except *_main.cc.
function(coterie_library folder)
  cmake_parse_arguments(ARG "" "PCH" "DEPS;EXCLUDE" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} *.cc)
  list(FILTER sources EXCLUDE REGEX "_main\\.cc$")
  foreach(pattern IN LISTS ARG_EXCLUDE)
    list(FILTER sources EXCLUDE REGEX "${pattern}")
  endforeach()
  if(sources)
    add_library(coterie_${folder} STATIC ${sources})
    set(scope PUBLIC)
    if(ARG_PCH)
      target_precompile_headers(coterie_${folder} REUSE_FROM coterie_pch_${ARG_PCH})
    endif()
  else()
    add_library(coterie_${folder} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(coterie_${folder} ${scope} ${CMAKE_SOURCE_DIR})
  target_link_libraries(coterie_${folder} ${scope} ${ARG_DEPS})
endfunction()

# coterie_binary(<name> SOURCES <file>... DEPS <target>...)
function(coterie_binary name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
endfunction()

# coterie_test(<folder> [PCH test_grpc] DEPS <target>...)
#   -> one test binary <folder>_test from every *_test.cc below tests/<folder>; helpers are the other .cc files.
function(coterie_test folder)
  cmake_parse_arguments(ARG "" "PCH" "DEPS;LABELS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} *.cc)
  list(FILTER sources EXCLUDE REGEX "_fuzz\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_main\\.cc$")
  if(NOT sources)
    return()
  endif()
  add_executable(${folder}_test ${sources})
  target_link_libraries(${folder}_test PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest GTest::gtest_main)
  target_compile_options(${folder}_test PRIVATE ${test_options})
  if(NOT ARG_PCH)
    set(ARG_PCH test)
  endif()
  target_precompile_headers(${folder}_test REUSE_FROM coterie_pch_${ARG_PCH})
  # Tests find committed data from the root of the sources, whatever the build folder.
  target_compile_definitions(${folder}_test PRIVATE COTERIE_SOURCE_DIR="${CMAKE_SOURCE_DIR}"
                                                    COTERIE_BINARY_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  add_test(NAME ${folder} COMMAND ${folder}_test)
  set_tests_properties(${folder} PROPERTIES TIMEOUT 1500 LABELS "${ARG_LABELS}")
endfunction()

# coterie_fuzzer(<name> SOURCES <file>... DEPS <target>...)
#   -> libFuzzer binary; its committed seeds are tests/fuzz/corpus/<name>.
function(coterie_fuzzer name)
  if(NOT COTERIE_FUZZERS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  # A short bounded run; new inputs go to a scratch folder, the committed seeds are only read.
  set(scratch ${CMAKE_BINARY_DIR}/fuzz-scratch/${name})
  set(seeds ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
  file(MAKE_DIRECTORY ${scratch})
  add_test(NAME ${name} COMMAND ${name} -max_total_time=20 -timeout=40 -report_slow_units=40 -rss_limit_mb=2048 -print_final_stats=1
                                        -artifact_prefix=${scratch}/ ${scratch} ${seeds})
  set_tests_properties(${name} PROPERTIES TIMEOUT 120 LABELS fuzz)
endfunction()

# coterie_order_grpc(<target>): under the thread sanitizer, the target sees the order that gRPC's library gives.
function(coterie_order_grpc target)
  if(NOT COTERIE_SANITIZE MATCHES "thread")
    return()
  endif()
  add_library(${target}_grpc_order OBJECT ${CMAKE_SOURCE_DIR}/tests/tsan/grpc_order.cc)
  target_compile_options(${target}_grpc_order PRIVATE -fno-sanitize=thread)
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_grpc_order>)
  target_link_libraries(${target} PRIVATE ${CMAKE_DL_LIBS})
endfunction()
