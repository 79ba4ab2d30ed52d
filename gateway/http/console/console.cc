#include "gateway/http/console/console.h"

#include <memory>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/check.h"
#include "common/digest.h"
#include "common/status.h"

namespace coterie::gateway::http {
namespace {

constexpr char kConsoleMethods[] = "GET, HEAD, OPTIONS";

// The page runs its own script and nothing else, speaks to this gateway alone, stands in nobody's frame, and
// may not turn text into markup (Trusted Types): an answer is text whatever a model writes.
constexpr char kPolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri "
    "'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const char* TypeOf(std::string_view name) {
  const std::string_view suffix = name.substr(name.rfind('.') + 1);
  if (suffix == "html") return "text/html; charset=utf-8";
  if (suffix == "css") return "text/css; charset=utf-8";
  if (suffix == "js") return "text/javascript; charset=utf-8";
  if (suffix == "svg") return "image/svg+xml";
  COTERIE_CHECK(false) << "a console file of no known type: " << name;
  return "";
}

// Whether an If-None-Match holds `etag`; weak or not is one here, as RFC 9110 compares them.
bool HoldsTag(std::string_view header, const std::string& etag) {
  for (absl::string_view one : absl::StrSplit(ToAbsl(header), ',')) {
    one = absl::StripAsciiWhitespace(one);
    if (absl::StartsWith(one, "W/")) one.remove_prefix(2);
    if (one == "*" || one == etag) return true;
  }
  return false;
}

void AddGuards(HeaderFields* headers) {
  headers->emplace_back("Content-Security-Policy", kPolicy);
  headers->emplace_back("X-Content-Type-Options", "nosniff");
  headers->emplace_back("X-Frame-Options", "DENY");
  headers->emplace_back("Referrer-Policy", "no-referrer");
  headers->emplace_back("Cross-Origin-Opener-Policy", "same-origin");
  headers->emplace_back("Cross-Origin-Resource-Policy", "same-origin");
}

}  // namespace

Console::Console() {
  for (const EmbeddedFile& embedded : ConsoleFiles()) {
    File file;
    file.path = embedded.name == "index.html" ? "/" : absl::StrCat("/console/", ToAbsl(embedded.name));
    file.type = TypeOf(embedded.name);
    file.text = std::make_shared<const std::string>(embedded.text);
    file.etag = absl::StrCat("\"", Hasher().Update(embedded.text).Finish().Short(), "\"");
    files_.push_back(std::move(file));
  }
}

const Console::File* Console::Find(std::string_view path) const {
  for (const File& file : files_) {
    if (file.path == path) return &file;
  }
  return nullptr;
}

HttpResponse Console::Answer(const HttpRequest& request) const {
  const File& file = *Find(request.path);
  HttpResponse response;
  if (request.method == "OPTIONS") {
    response.code = 204;
    response.type.clear();
    response.headers.emplace_back("Allow", kConsoleMethods);
    return response;
  }
  if (request.method != "GET" && request.method != "HEAD") {
    response = ErrorResponse(
        405, absl::StrCat(request.method, " is not served at ", file.path, "; ", kConsoleMethods));
    response.headers.emplace_back("Allow", kConsoleMethods);
    response.headers.emplace_back("X-Should-Retry", "false");
    return response;
  }
  // Asked for again on every visit: a new program never meets an old page, and it is 304 as a rule.
  response.headers.emplace_back("Cache-Control", "no-cache");
  response.headers.emplace_back("ETag", file.etag);
  AddGuards(&response.headers);
  if (const std::string_view tags = request.Header("if-none-match");
      !tags.empty() && HoldsTag(tags, file.etag)) {
    response.code = 304;
    response.type.clear();
    return response;
  }
  response.type = file.type;
  response.body = file.text;
  return response;
}

}  // namespace coterie::gateway::http
