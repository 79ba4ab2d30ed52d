// Any bytes as the body of a request over HTTP: as JSON, and then as every endpoint of answers reads it.
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/http_checks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace coterie::gateway::http;
  HttpRequest request;
  request.id = "fuzz";
  request.body.assign(reinterpret_cast<const char*>(data), size);  // schemas are read out of it
  const auto body = ParseBody(request.body);
  if (!body.ok()) {
    CheckError(StatusResponse(body.status()));
    return 0;
  }
  CheckBody(*body, request);
  return 0;
}
