#ifndef COTERIE_NET_RECEIVED_H_
#define COTERIE_NET_RECEIVED_H_

#include <google/protobuf/message.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/impl/codegen/server_callback_handlers.h>
#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/impl/service_type.h>
#include <grpcpp/support/method_handler.h>
#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/sync_stream.h>

#include <string_view>

#include "common/status.h"
#include "net/bad_calls.h"

namespace coterie::net {

// A message as a client sent it, which may be none. gRPC's own answer to bytes that do not parse is
// UNIMPLEMENTED with nothing said (or, in a stream, what looks like its end), so that clients and proxies
// take the method for missing. Services whose handlers are made below, or that read Received, say what is
// wrong.
template <typename Message>
struct Received {
  Message message;
  Status problem;  // InvalidArgument: why `message` is not what the client sent
};

// Takes `buffer` apart into `message`. InvalidArgument naming the type and, where a text is not UTF-8, its
// field.
Status Parse(grpc::ByteBuffer* buffer, google::protobuf::Message* message);

// Place of a method in its service, as grpc::Service counts. CHECKs that both exist.
int MethodIndex(std::string_view service, std::string_view method);

// The end of a call for such a `problem`, which it counts.
inline grpc::Status RefusalOf(const Status& problem, BadCalls* bad_calls) {
  bad_calls->CountMessage();
  return {grpc::StatusCode::INVALID_ARGUMENT, std::string(problem.message())};
}

// Handlers for grpc::Service::MarkMethodCallback, calling `method` of `service` for requests that are
// messages; the others are counted. `bad_calls` is borrowed, here and below.
template <typename Service, typename Request, typename Response>
grpc::internal::MethodHandler* UnaryHandler(
    Service* service,
    grpc::ServerUnaryReactor* (Service::*method)(grpc::CallbackServerContext*, const Request*, Response*),
    BadCalls* bad_calls) {
  return new grpc::internal::CallbackUnaryHandler<Received<Request>, Response>(
      [service, method, bad_calls](grpc::CallbackServerContext* context, const Received<Request>* request,
                                   Response* response) -> grpc::ServerUnaryReactor* {
        if (request->problem.ok()) return (service->*method)(context, &request->message, response);
        grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
        reactor->Finish(RefusalOf(request->problem, bad_calls));
        return reactor;
      });
}

template <typename Service, typename Request, typename Response>
grpc::internal::MethodHandler* ServerStreamHandler(
    Service* service,
    grpc::ServerWriteReactor<Response>* (Service::*method)(grpc::CallbackServerContext*, const Request*),
    BadCalls* bad_calls) {
  class Refusal final : public grpc::ServerWriteReactor<Response> {
   public:
    explicit Refusal(const grpc::Status& status) { this->Finish(status); }
    void OnDone() override { delete this; }
  };
  return new grpc::internal::CallbackServerStreamingHandler<Received<Request>, Response>(
      [service, method, bad_calls](grpc::CallbackServerContext* context,
                                   const Received<Request>* request) -> grpc::ServerWriteReactor<Response>* {
        if (request->problem.ok()) return (service->*method)(context, &request->message);
        return new Refusal(RefusalOf(request->problem, bad_calls));
      });
}

// The reactor that `method` makes reads Received<Request>, and ends the call with RefusalOf where that is
// none.
template <typename Request, typename Response, typename Service, typename Reactor>
grpc::internal::MethodHandler* BidiHandler(Service* service,
                                           Reactor* (Service::*method)(grpc::CallbackServerContext*)) {
  return new grpc::internal::CallbackBidiHandler<Received<Request>, Response>(
      [service, method](grpc::CallbackServerContext* context) { return (service->*method)(context); });
}

// UnaryHandler for grpc::Service::MarkMethodStreamed and a synchronous method, which reads its one request
// itself.
template <typename Service, typename Request, typename Response>
grpc::internal::MethodHandler* SyncUnaryHandler(Service* service,
                                                grpc::Status (Service::*method)(grpc::ServerContext*,
                                                                                const Request*, Response*),
                                                BadCalls* bad_calls) {
  return new grpc::internal::StreamedUnaryHandler<Received<Request>, Response>(
      [service, method, bad_calls](
          grpc::ServerContext* context,
          grpc::ServerUnaryStreamer<Received<Request>, Response>* call) -> grpc::Status {
        Received<Request> request;
        if (!call->Read(&request)) return RefusalOf(Parse(nullptr, &request.message), bad_calls);
        if (!request.problem.ok()) return RefusalOf(request.problem, bad_calls);
        Response response;
        grpc::Status status = (service->*method)(context, &request.message, &response);
        if (status.ok()) call->Write(response);
        return status;
      });
}

// What a synchronous method reads of its client's stream.
template <typename Message>
class CheckedReader {
 public:
  CheckedReader(grpc::internal::ReaderInterface<Received<Message>>* reader, BadCalls* bad_calls)
      : reader_(reader), bad_calls_(bad_calls) {}

  // False at the end of the stream and at a message that is none; problem() tells which.
  bool Read(Message* message) {
    Received<Message> received;
    if (!problem_.ok() || !reader_->Read(&received)) return false;
    problem_ = received.problem;
    if (!problem_.ok()) bad_calls_->CountMessage();
    *message = std::move(received.message);
    return problem_.ok();
  }
  const Status& problem() const { return problem_; }

 private:
  grpc::internal::ReaderInterface<Received<Message>>* const reader_;
  BadCalls* const bad_calls_;
  Status problem_;
};

// For grpc::Service::MarkMethodStreamed.
template <typename Service, typename Request, typename Response>
grpc::internal::MethodHandler* SyncClientStreamHandler(
    Service* service,
    grpc::Status (Service::*method)(grpc::ServerContext*, CheckedReader<Request>*, Response*),
    BadCalls* bad_calls) {
  return new grpc::internal::ClientStreamingHandler<Service, Received<Request>, Response>(
      [method, bad_calls](Service* self, grpc::ServerContext* context,
                          grpc::ServerReader<Received<Request>>* reader, Response* response) {
        CheckedReader<Request> checked(reader, bad_calls);
        return (self->*method)(context, &checked, response);
      },
      service);
}

// The same for a method that answers with a stream, too.
template <typename Service, typename Request, typename Response>
grpc::internal::MethodHandler* SyncBidiHandler(
    Service* service,
    grpc::Status (Service::*method)(grpc::ServerContext*, CheckedReader<Request>*,
                                    grpc::internal::WriterInterface<Response>*),
    BadCalls* bad_calls) {
  return new grpc::internal::BidiStreamingHandler<Service, Received<Request>, Response>(
      [method, bad_calls](Service* self, grpc::ServerContext* context,
                          grpc::ServerReaderWriter<Response, Received<Request>>* stream) {
        CheckedReader<Request> checked(stream, bad_calls);
        return (self->*method)(context, &checked, stream);
      },
      service);
}

}  // namespace coterie::net

namespace grpc {

template <typename Message>
class SerializationTraits<coterie::net::Received<Message>, void> {
 public:
  static Status Deserialize(ByteBuffer* buffer, coterie::net::Received<Message>* received) {
    received->problem = coterie::net::Parse(buffer, &received->message);
    return Status::OK;
  }
};

}  // namespace grpc

#endif  // COTERIE_NET_RECEIVED_H_
