#include "net/reflection_service.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <algorithm>
#include <set>
#include <utility>

#include "common/check.h"
#include "common/quoted.h"
#include "grpc/health/v1/health.pb.h"
#include "grpc/reflection/v1/reflection.pb.h"
#include "grpc/reflection/v1alpha/reflection.pb.h"
#include "net/received.h"

namespace coterie::net {
namespace {

namespace pb = google::protobuf;
namespace v1 = grpc::reflection::v1;

const pb::DescriptorPool& Pool() { return *pb::DescriptorPool::generated_pool(); }

// A file and all that it imports, each once.
void AddFile(const pb::FileDescriptor& file, std::set<const pb::FileDescriptor*>* seen,
             v1::FileDescriptorResponse* out) {
  if (!seen->insert(&file).second) return;
  pb::FileDescriptorProto proto;
  file.CopyTo(&proto);
  out->add_file_descriptor_proto(proto.SerializeAsString());
  for (int i = 0; i < file.dependency_count(); ++i) AddFile(*file.dependency(i), seen, out);
}

void SetError(grpc::StatusCode code, std::string message, v1::ServerReflectionResponse* response) {
  response->mutable_error_response()->set_error_code(code);
  response->mutable_error_response()->set_error_message(std::move(message));
}

void SetFile(const pb::FileDescriptor* file, const std::string& wanted,
             v1::ServerReflectionResponse* response) {
  if (file == nullptr) {
    return SetError(grpc::StatusCode::NOT_FOUND,
                    absl::StrCat(wanted, " is not known here; list_services names what is"), response);
  }
  std::set<const pb::FileDescriptor*> seen;
  AddFile(*file, &seen, response->mutable_file_descriptor_response());
}

// One stream: answers message by message, in order.
class ReflectionCall final
    : public grpc::ServerBidiReactor<Received<v1::ServerReflectionRequest>, v1::ServerReflectionResponse> {
 public:
  explicit ReflectionCall(const ReflectionService* service) : service_(service) { StartRead(&request_); }

  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    if (!request_.problem.ok()) return Finish(RefusalOf(request_.problem, service_->bad_calls()));
    response_ = service_->Answer(request_.message);
    StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return Finish({grpc::StatusCode::CANCELLED, "the client is gone"});
    StartRead(&request_);
  }
  void OnDone() override { delete this; }

 private:
  const ReflectionService* const service_;
  Received<v1::ServerReflectionRequest> request_;
  v1::ServerReflectionResponse response_;
};

}  // namespace

ReflectionService::ReflectionService(std::vector<std::string> services, BadCalls* bad_calls)
    : services_(std::move(services)), bad_calls_(bad_calls) {
  // Naming these keeps their descriptions in the program.
  for (const pb::Descriptor* type :
       {grpc::health::v1::HealthCheckRequest::descriptor(), v1::ServerReflectionRequest::descriptor(),
        grpc::reflection::v1alpha::ServerReflectionRequest::descriptor()}) {
    services_.push_back(type->file()->service(0)->full_name());
  }
  std::sort(services_.begin(), services_.end());
  for (const std::string& name : services_) COTERIE_CHECK(Pool().FindServiceByName(name) != nullptr) << name;
  int index = 0;
  for (const char* path : {"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                           "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"}) {
    AddMethod(new grpc::internal::RpcServiceMethod(path, grpc::internal::RpcMethod::BIDI_STREAMING, nullptr));
    MarkMethodCallback(index++,
                       new grpc::internal::CallbackBidiHandler<Received<v1::ServerReflectionRequest>,
                                                               v1::ServerReflectionResponse>(
                           [this](grpc::CallbackServerContext*) { return new ReflectionCall(this); }));
  }
}

v1::ServerReflectionResponse ReflectionService::Answer(const v1::ServerReflectionRequest& request) const {
  v1::ServerReflectionResponse response;
  response.set_valid_host(request.host());
  *response.mutable_original_request() = request;
  switch (request.message_request_case()) {
    case v1::ServerReflectionRequest::kFileByFilename:
      SetFile(Pool().FindFileByName(request.file_by_filename()),
              absl::StrCat("the file ", Quoted(request.file_by_filename())), &response);
      break;
    case v1::ServerReflectionRequest::kFileContainingSymbol:
      SetFile(Pool().FindFileContainingSymbol(request.file_containing_symbol()),
              absl::StrCat("the name ", Quoted(request.file_containing_symbol())), &response);
      break;
    case v1::ServerReflectionRequest::kFileContainingExtension: {
      const v1::ExtensionRequest& wanted = request.file_containing_extension();
      const pb::Descriptor* type = Pool().FindMessageTypeByName(wanted.containing_type());
      const pb::FieldDescriptor* field =
          type == nullptr ? nullptr : Pool().FindExtensionByNumber(type, wanted.extension_number());
      SetFile(field == nullptr ? nullptr : field->file(),
              absl::StrCat("extension ", wanted.extension_number(), " of ", Quoted(wanted.containing_type())),
              &response);
      break;
    }
    case v1::ServerReflectionRequest::kAllExtensionNumbersOfType: {
      const std::string& name = request.all_extension_numbers_of_type();
      const pb::Descriptor* type = Pool().FindMessageTypeByName(name);
      if (type == nullptr) {
        SetError(grpc::StatusCode::NOT_FOUND,
                 absl::StrCat("the message type ", Quoted(name), " is not known here"), &response);
        break;
      }
      std::vector<const pb::FieldDescriptor*> extensions;
      Pool().FindAllExtensions(type, &extensions);
      response.mutable_all_extension_numbers_response()->set_base_type_name(name);
      for (const pb::FieldDescriptor* extension : extensions) {
        response.mutable_all_extension_numbers_response()->add_extension_number(extension->number());
      }
      break;
    }
    case v1::ServerReflectionRequest::kListServices:
      for (const std::string& name : services_) {
        response.mutable_list_services_response()->add_service()->set_name(name);
      }
      break;
    default:
      SetError(grpc::StatusCode::INVALID_ARGUMENT,
               "the message asks for nothing: set list_services, file_by_filename, file_containing_symbol, "
               "file_containing_extension or all_extension_numbers_of_type",
               &response);
  }
  return response;
}

}  // namespace coterie::net
