#include "net/unknown_methods.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/quoted.h"

namespace coterie::net {
namespace {

constexpr size_t kMaxNameBytes = 200;  // of the caller's own words that are said back

}  // namespace

UnknownMethods::UnknownMethods(const std::vector<std::string>& services, BadCalls* bad_calls)
    : served_(absl::StrJoin(services, ", ")), bad_calls_(bad_calls) {}

grpc::ServerGenericBidiReactor* UnknownMethods::CreateReactor(grpc::GenericCallbackServerContext* context) {
  class Refusal final : public grpc::ServerGenericBidiReactor {
   public:
    explicit Refusal(const std::string& message) { Finish({grpc::StatusCode::UNIMPLEMENTED, message}); }
    void OnDone() override { delete this; }
  };
  const std::string name = Shown(context->method(), kMaxNameBytes);
  bad_calls_->CountMethod();
  return new Refusal(absl::StrCat("this port has no method ", name, "; it serves ", served_));
}

}  // namespace coterie::net
