#include "net/unknown_methods.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace coterie::net {
namespace {

constexpr size_t kMaxNameBytes = 200;  // of the caller's own words that are said back

}  // namespace

UnknownMethods::UnknownMethods(const std::vector<std::string>& services)
    : served_(absl::StrJoin(services, ", ")) {}

grpc::ServerGenericBidiReactor* UnknownMethods::CreateReactor(grpc::GenericCallbackServerContext* context) {
  class Refusal final : public grpc::ServerGenericBidiReactor {
   public:
    explicit Refusal(std::string message) { Finish({grpc::StatusCode::UNIMPLEMENTED, std::move(message)}); }
    void OnDone() override { delete this; }
  };
  const std::string name = absl::CHexEscape(context->method().substr(0, kMaxNameBytes));
  return new Refusal(absl::StrCat("this port has no method ", name, "; it serves ", served_));
}

}  // namespace coterie::net
