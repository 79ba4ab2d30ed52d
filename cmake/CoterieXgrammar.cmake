# xgrammar: which tokens a grammar allows next. Fetched by digest and built once in build/deps, for every preset: none of
# their options matter to it, and the sanitizers have nothing of ours to see in it.
set(COTERIE_XGRAMMAR_DIR ${CMAKE_SOURCE_DIR}/build/deps/xgrammar-0.2.9 CACHE PATH "Where xgrammar is built, or was")
file(MAKE_DIRECTORY ${COTERIE_XGRAMMAR_DIR}/include)
add_custom_command(OUTPUT ${COTERIE_XGRAMMAR_DIR}/libxgrammar.a
  COMMAND ${CMAKE_SOURCE_DIR}/tools/build-xgrammar ${COTERIE_XGRAMMAR_DIR}
  DEPENDS ${CMAKE_SOURCE_DIR}/tools/build-xgrammar
  COMMENT "Fetching and compiling xgrammar (once)")
add_custom_target(xgrammar_build DEPENDS ${COTERIE_XGRAMMAR_DIR}/libxgrammar.a)
add_library(xgrammar STATIC IMPORTED GLOBAL)
set_target_properties(xgrammar PROPERTIES IMPORTED_LOCATION ${COTERIE_XGRAMMAR_DIR}/libxgrammar.a
                                          INTERFACE_INCLUDE_DIRECTORIES ${COTERIE_XGRAMMAR_DIR}/include)
add_dependencies(xgrammar xgrammar_build)
