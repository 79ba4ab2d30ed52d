# Puts files into a program as C++ text: cmake -D OUTPUT=<file.cc> -D FOLDER=<folder> -P EmbedFiles.cmake
# The delimiter of the literals stands in no page.
file(GLOB names RELATIVE ${FOLDER} ${FOLDER}/*)
list(SORT names)
set(entries "")
foreach(name IN LISTS names)
  file(READ ${FOLDER}/${name} text)
  if(text MATCHES "\\)~embedded\"")
    message(FATAL_ERROR "${FOLDER}/${name} holds )~embedded\", which ends a literal")
  endif()
  string(APPEND entries "    {\"${name}\", R\"~embedded(${text})~embedded\"},\n")
endforeach()
file(WRITE ${OUTPUT} "#include \"gateway/http/console/console.h\"

namespace coterie::gateway::http {
namespace {

constexpr EmbeddedFile kFiles[] = {
${entries}};

}  // namespace

std::span<const EmbeddedFile> ConsoleFiles() { return kFiles; }

}  // namespace coterie::gateway::http
")
