#include "net/grpc_listener.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <list>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "grpcpp/generic/async_generic_service.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "net/grpc_time.h"
#include "tests/net/http2_frames.h"
#include "tests/net/raw_client.h"

namespace coterie::net {
namespace {

using ::testing::HasSubstr;
using testing::RawClient;

using testing::kEmptySettings;
using testing::kPreface;

// A certificate for "localhost" that it signs itself, and its key, as PEM.
struct Identity {
  std::string certificate, key;
};
Identity MakeIdentity() {
  EVP_PKEY* const key = EVP_EC_gen("P-256");
  X509* const certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  X509_set_pubkey(certificate, key);
  X509_NAME* const name = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("localhost"),
                             -1, -1, 0);
  X509_set_issuer_name(certificate, name);
  X509_sign(certificate, key, EVP_sha256());
  const auto text = [](auto write) {
    BIO* const bio = BIO_new(BIO_s_mem());
    write(bio);
    char* data = nullptr;
    const long n = BIO_get_mem_data(bio, &data);
    std::string pem(data, static_cast<size_t>(n));
    BIO_free(bio);
    return pem;
  };
  Identity identity{text([&](BIO* bio) { PEM_write_bio_X509(bio, certificate); }), text([&](BIO* bio) {
                      PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr);
                    })};
  X509_free(certificate);
  EVP_PKEY_free(key);
  return identity;
}

grpc::ByteBuffer EmptyMessage() {
  const grpc::Slice nothing;
  return grpc::ByteBuffer(&nothing, 1);
}

class GrpcListenerTest : public ::testing::Test {
 protected:
  void Start(GrpcListenerOptions options = {}) {
    if (options.address.empty()) options.address = "127.0.0.1:0";
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    nothing_ = std::make_unique<grpc::CallbackGenericService>();
    builder.RegisterCallbackGenericService(nothing_.get());  // a server wants some service
    auto listener = GrpcListener::Start(&builder, std::move(options), &registry_);
    ASSERT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
  }
  static GrpcListenerOptions Places(int all, int of_one_client) {
    GrpcListenerOptions options;
    options.connections.max_connections = all;
    options.connections.max_per_client = of_one_client;
    options.connections.settle = absl::ZeroDuration();
    return options;
  }

  std::shared_ptr<grpc::Channel> Connect(
      std::shared_ptr<grpc::ChannelCredentials> credentials = nullptr) const {
    grpc::ChannelArguments args;
    args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    args.SetSslTargetNameOverride("localhost");
    if (credentials == nullptr) credentials = grpc::InsecureChannelCredentials();
    return grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", listener_->port()), credentials, args);
  }
  // Asks the health service; its answer is not of interest.
  static grpc::Status Ask(const std::shared_ptr<grpc::Channel>& channel) {
    grpc::GenericStub stub(channel);
    grpc::ClientContext context;
    context.set_deadline(GrpcDeadline(absl::Seconds(20)));
    const grpc::ByteBuffer request = EmptyMessage();
    grpc::ByteBuffer response;
    grpc::CompletionQueue queue;
    const auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
    call->StartCall();
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return status;
  }

  // Idle connections are looked for once a second.
  grpc::Status AskUntilTaken() const {
    grpc::Status status;
    for (int attempt = 0; attempt < 200 && !(status = Ask(Connect())).ok(); ++attempt) {
      absl::SleepFor(absl::Milliseconds(50));
    }
    return status;
  }

  MetricsRegistry registry_;
  std::unique_ptr<grpc::CallbackGenericService> nothing_;
  std::unique_ptr<GrpcListener> listener_;
};

TEST_F(GrpcListenerTest, AnswersCalls) {
  Start();
  const grpc::Status status = Ask(Connect());
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(GrpcListenerTest, ATakenPortIsNamed) {
  Start();
  GrpcListenerOptions options;
  options.address = absl::StrCat("127.0.0.1:", listener_->port());
  grpc::ServerBuilder builder;
  const auto second = GrpcListener::Start(&builder, options, &registry_);
  EXPECT_TRUE(absl::IsAlreadyExists(second.status())) << second.status();
}

TEST_F(GrpcListenerTest, SpeaksTlsWithCredentials) {
  const Identity identity = MakeIdentity();
  grpc::SslServerCredentialsOptions ssl;
  ssl.pem_key_cert_pairs.push_back({identity.key, identity.certificate});
  GrpcListenerOptions options;
  options.credentials = grpc::SslServerCredentials(ssl);
  options.connections.silent_timeout = absl::Seconds(1);
  Start(options);
  grpc::SslCredentialsOptions trust;
  trust.pem_root_certs = identity.certificate;
  const grpc::Status status = Ask(Connect(grpc::SslCredentials(trust)));
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(Ask(Connect()).error_code(), grpc::StatusCode::UNAVAILABLE);
  RawClient half(listener_->port());
  half.Send("\x16\x03\x01");
  EXPECT_TRUE(half.ClosedWithin(absl::Seconds(20))) << "a handshake that does not go on";
}

TEST_F(GrpcListenerTest, ARefusedClientIsUnavailableAndCanReadWhy) {
  Start(Places(1, 1));
  const auto busy = Connect();
  grpc::GenericStub stub(busy);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto watch = stub.PrepareCall(&context, "/grpc.health.v1.Health/Watch", &queue);
  void* tag = nullptr;
  bool ok = false;
  watch->StartCall(nullptr);
  ASSERT_TRUE(queue.Next(&tag, &ok) && ok);
  watch->WriteLast(EmptyMessage(), grpc::WriteOptions(), nullptr);
  ASSERT_TRUE(queue.Next(&tag, &ok) && ok);
  grpc::ByteBuffer response;
  watch->Read(&response, nullptr);
  ASSERT_TRUE(queue.Next(&tag, &ok) && ok) << "it runs";

  const grpc::Status refused = Ask(Connect());
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  RawClient reader(listener_->port());
  EXPECT_THAT(reader.ReadAll(), HasSubstr("HTTP/1.1 503 "));
  RawClient again(listener_->port());
  EXPECT_THAT(again.ReadAll(), HasSubstr("(--max-connections-per-address)"));

  context.TryCancel();
  grpc::Status end;
  watch->Finish(&end, nullptr);
  queue.Next(&tag, &ok);
  const grpc::Status next = AskUntilTaken();
  EXPECT_TRUE(next.ok()) << "nothing runs on the first one any more: " << next.error_message();
}

TEST_F(GrpcListenerTest, ConnectionsOnWhichNothingRunsShutNobodyOut) {
  Start(Places(16, 8));
  std::list<RawClient> idle;
  for (int i = 0; i < 100; ++i) {
    idle.emplace_back(listener_->port(), i % 2 == 0 ? "127.0.0.1" : "127.0.0.2");
    idle.back().Send(kPreface);
    idle.back().Send(kEmptySettings);
  }
  int n_answered = 0;
  for (int i = 0; i < 24; ++i) {
    n_answered += AskUntilTaken().ok();
  }
  EXPECT_EQ(n_answered, 24);
}

TEST_F(GrpcListenerTest, APrefaceWithoutSettingsIsClosedAfterAWhile) {
  GrpcListenerOptions options;
  options.connections.silent_timeout = absl::Seconds(1);
  Start(options);
  RawClient client(listener_->port());
  client.Send(kPreface);
  EXPECT_TRUE(client.ClosedWithin(absl::Seconds(20)));
}

// Must come to its end; the sanitizers see the rest.
TEST_F(GrpcListenerTest, EndsWhileClientsConnect) {
  for (int round = 0; round < 20; ++round) {
    Start();
    const int port = listener_->port();
    std::thread clients([port] {
      for (int i = 0; i < 20; ++i) {
        RawClient client(port);
        if (client.connected()) client.Send(kPreface);
      }
    });
    listener_.reset();
    clients.join();
  }
}

TEST_F(GrpcListenerTest, AConnectionThatBreaksOffCallAfterCallIsCutOffAndOthersAreNot) {
  GrpcListenerOptions options;
  options.resets = {.burst = 100, .per_second = 20};
  Start(std::move(options));
  const auto honest = Connect();
  EXPECT_TRUE(Ask(honest).ok());
  RawClient flood(listener_->port());
  ASSERT_TRUE(flood.Send(std::string(kPreface).append(kEmptySettings)));
  uint32_t stream = 1;
  bool open = true;
  for (int batch = 0; open && batch < 20'000; ++batch) {
    std::string bytes;
    for (int i = 0; i < 10; ++i, stream += 2) {
      bytes += testing::OpenAndReset(stream, "/grpc.health.v1.Health/Check", testing::GrpcMessage(""));
    }
    open = flood.Send(bytes);
    absl::SleepFor(absl::Milliseconds(1));
  }
  EXPECT_FALSE(open);
  EXPECT_TRUE(Ask(honest).ok());
  EXPECT_EQ(honest->GetState(false), GRPC_CHANNEL_READY);
  EXPECT_THAT(registry_.Text(),
              HasSubstr("coterie_connections_refused_total{listener=\"front\",reason=\"resets\"} 1"));
  RawClient again(listener_->port());
  EXPECT_TRUE(again.connected());
  EXPECT_TRUE(Ask(Connect()).ok());
}

}  // namespace
}  // namespace coterie::net
