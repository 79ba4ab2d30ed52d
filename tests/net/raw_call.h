#ifndef COTERIE_TESTS_NET_RAW_CALL_H_
#define COTERIE_TESTS_NET_RAW_CALL_H_

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/descriptor_database.h>
#include <grpc/support/time.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "grpc/reflection/v1/reflection.pb.h"
#include "gtest/gtest.h"

namespace coterie::net::testing {

struct RawReply {
  grpc::Status status;
  std::vector<std::string> messages;
};

// Calls `method` ("/package.Service/Method"), whatever its kind, with these bytes as its messages.
inline RawReply CallRaw(const std::string& address, const std::string& method,
                        const std::vector<std::string>& requests) {
  grpc::GenericStub stub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(gpr_time_from_seconds(30, GPR_TIMESPAN));
  grpc::CompletionQueue queue;
  const auto wait = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  const auto call = stub.PrepareCall(&context, method, &queue);
  call->StartCall(nullptr);
  bool open = wait();
  for (const std::string& request : requests) {
    if (!open) break;
    const grpc::Slice slice(request);
    call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
    open = wait();
  }
  if (open) {
    call->WritesDone(nullptr);
    wait();
  }
  RawReply reply;
  grpc::ByteBuffer received;
  for (call->Read(&received, nullptr); wait(); call->Read(&received, nullptr)) {
    grpc::Slice slice;
    std::string message;
    if (received.Length() > 0 && received.DumpToSingleSlice(&slice).ok()) {
      message.assign(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
    reply.messages.push_back(message);
  }
  call->Finish(&reply.status, nullptr);
  wait();
  queue.Shutdown();
  void* tag;
  bool ok;
  while (queue.Next(&tag, &ok)) {
  }
  return reply;
}

// --- A request that is no message ---

inline bool HasText(const google::protobuf::Descriptor& type, int* number) {
  for (int i = 0; i < type.field_count(); ++i) {
    if (type.field(i)->type() != google::protobuf::FieldDescriptor::TYPE_STRING) continue;
    *number = type.field(i)->number();
    return true;
  }
  return false;
}

// Every method of `service` refuses garbage, text that is not UTF-8, and a call without its request:
// INVALID_ARGUMENT with a sentence about the message. `may_be_empty`: the method whose stream of nothing is a
// whole request.
inline void ExpectRefusesWhatIsNoMessage(const std::string& address, const std::string& service,
                                         const std::string& may_be_empty = "") {
  using ::testing::HasSubstr;
  const auto* described = google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(service);
  ASSERT_NE(described, nullptr) << service;
  for (int i = 0; i < described->method_count(); ++i) {
    const auto& method = *described->method(i);
    const std::string path = absl::StrCat("/", service, "/", method.name());
    SCOPED_TRACE(path);
    const grpc::Status garbage = CallRaw(address, path, {"\xff\xff\xff\xff"}).status;
    EXPECT_EQ(garbage.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(garbage.error_message(),
              absl::StrCat("the request is no ", method.input_type()->full_name(),
                           ": its 4 bytes do not parse; send that message, serialised by protobuf"));
    const grpc::Status none = CallRaw(address, path, {}).status;
    if (method.name() == may_be_empty) {
      EXPECT_TRUE(none.ok()) << none.error_message();
    } else {
      EXPECT_EQ(none.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
      EXPECT_THAT(none.error_message(), HasSubstr("ended before"));
    }
    int number;
    if (!HasText(*method.input_type(), &number)) continue;
    const std::string text = std::string(1, static_cast<char>(number << 3 | 2)) + "\x04" + "ab\xff\xfe";
    const grpc::Status bad_text = CallRaw(address, path, {text}).status;
    EXPECT_EQ(bad_text.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(bad_text.error_message(), HasSubstr("holds bytes that are not UTF-8"));
  }
}

// --- Reflection, as grpcurl and grpcui use it ---

class Reflection {
 public:
  Reflection(std::string address, const std::string& version)
      : address_(std::move(address)),
        path_(absl::StrCat("/grpc.reflection.", version, ".ServerReflection/ServerReflectionInfo")) {}

  using Request = grpc::reflection::v1::ServerReflectionRequest;
  using Response = grpc::reflection::v1::ServerReflectionResponse;

  // Both versions have one form on the wire.
  Response Ask(const Request& request) const {
    const RawReply reply = CallRaw(address_, path_, {request.SerializeAsString()});
    EXPECT_TRUE(reply.status.ok()) << reply.status.error_message();
    EXPECT_EQ(reply.messages.size(), 1u);
    Response response;
    EXPECT_TRUE(reply.messages.empty() || response.ParseFromString(reply.messages[0]));
    return response;
  }

  std::vector<std::string> Services() const {
    Request request;
    request.set_list_services("*");
    std::vector<std::string> names;
    const Response response = Ask(request);
    for (const auto& service : response.list_services_response().service()) names.push_back(service.name());
    return names;
  }

  // Finds and links every listed service with nothing but what the server sends.
  void ExpectDescribesAllItLists() const {
    for (const std::string& name : Services()) {
      SCOPED_TRACE(name);
      Request request;
      request.set_file_containing_symbol(name);
      const Response response = Ask(request);
      ASSERT_GT(response.file_descriptor_response().file_descriptor_proto_size(), 0)
          << response.error_response().error_message();
      google::protobuf::SimpleDescriptorDatabase files;
      for (const std::string& bytes : response.file_descriptor_response().file_descriptor_proto()) {
        google::protobuf::FileDescriptorProto file;
        ASSERT_TRUE(file.ParseFromString(bytes));
        files.Add(file);
        Request by_name;
        by_name.set_file_by_filename(file.name());
        EXPECT_EQ(Ask(by_name).file_descriptor_response().file_descriptor_proto(0), bytes) << file.name();
      }
      google::protobuf::DescriptorPool pool(&files);
      const google::protobuf::ServiceDescriptor* service = pool.FindServiceByName(name);
      ASSERT_NE(service, nullptr);
      for (int i = 0; i < service->method_count(); ++i) {
        Request method;
        method.set_file_containing_symbol(service->method(i)->full_name());
        EXPECT_TRUE(Ask(method).has_file_descriptor_response()) << service->method(i)->full_name();
        Request extensions;
        extensions.set_all_extension_numbers_of_type(service->method(i)->input_type()->full_name());
        EXPECT_EQ(Ask(extensions).all_extension_numbers_response().base_type_name(),
                  service->method(i)->input_type()->full_name());
      }
    }
  }

  void ExpectRefusesWithASentence() const {
    Request unknown;
    unknown.set_file_containing_symbol("no.such.Name");
    EXPECT_EQ(Ask(unknown).error_response().error_code(), grpc::StatusCode::NOT_FOUND);
    EXPECT_THAT(Ask(unknown).error_response().error_message(), ::testing::HasSubstr("\"no.such.Name\""));
    Request file;
    file.set_file_by_filename("no/such.proto");
    EXPECT_EQ(Ask(file).error_response().error_code(), grpc::StatusCode::NOT_FOUND);
    Request extension;
    extension.mutable_file_containing_extension()->set_containing_type("coterie.v1.Nothing");
    EXPECT_EQ(Ask(extension).error_response().error_code(), grpc::StatusCode::NOT_FOUND);
    Request numbers;
    numbers.set_all_extension_numbers_of_type("coterie.v1.Nothing");
    EXPECT_EQ(Ask(numbers).error_response().error_code(), grpc::StatusCode::NOT_FOUND);
    EXPECT_EQ(Ask(Request()).error_response().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    const grpc::Status garbage = CallRaw(address_, path_, {"\xff\xff"}).status;
    EXPECT_EQ(garbage.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(garbage.error_message(), ::testing::HasSubstr("do not parse"));
  }

  // One stream, many questions: each is answered in its turn.
  void ExpectAnswersManyOnOneStream() const {
    Request list, symbol;
    list.set_list_services("");
    symbol.set_file_containing_symbol("grpc.health.v1.Health");
    symbol.set_host("here");
    std::vector<std::string> requests;
    for (int i = 0; i < 10; ++i) requests.push_back((i % 2 == 0 ? list : symbol).SerializeAsString());
    const RawReply reply = CallRaw(address_, path_, requests);
    EXPECT_TRUE(reply.status.ok()) << reply.status.error_message();
    ASSERT_EQ(reply.messages.size(), requests.size());
    for (size_t i = 0; i < requests.size(); ++i) {
      Response response;
      ASSERT_TRUE(response.ParseFromString(reply.messages[i]));
      EXPECT_EQ(response.original_request().SerializeAsString(), requests[i]);
      EXPECT_EQ(response.has_list_services_response(), i % 2 == 0);
      EXPECT_EQ(response.valid_host(), i % 2 == 0 ? "" : "here");
    }
  }

 private:
  const std::string address_;
  const std::string path_;
};

}  // namespace coterie::net::testing

#endif  // COTERIE_TESTS_NET_RAW_CALL_H_
