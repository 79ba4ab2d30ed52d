#ifndef COTERIE_GATEWAY_HTTP_CONSOLE_CONSOLE_H_
#define COTERIE_GATEWAY_HTTP_CONSOLE_CONSOLE_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/http/server/http_request.h"
#include "gateway/http/server/http_response.h"

namespace coterie::gateway::http {

// A file of gateway/http/console/page/ as the build put it into the program.
struct EmbeddedFile {
  std::string_view name;  // "console.js"
  std::string_view text;
};
std::span<const EmbeddedFile> ConsoleFiles();  // generated: cmake/EmbedFiles.cmake

// The page at "/": asks a question and shows the route, the answer and the workers, by the same public API as
// every other client. Its files hold no secret and no data, so they are read without a key; the page asks for
// one when the API does. Immutable; thread-safe.
class Console {
 public:
  Console();

  bool Has(std::string_view path) const { return Find(path) != nullptr; }
  // For a path that it has; GET, HEAD or OPTIONS, others are refused.
  HttpResponse Answer(const HttpRequest& request) const;

 private:
  struct File {
    std::string path;
    const char* type;
    std::string etag;
    std::shared_ptr<const std::string> text;
  };
  const File* Find(std::string_view path) const;

  std::vector<File> files_;
};

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_CONSOLE_CONSOLE_H_
