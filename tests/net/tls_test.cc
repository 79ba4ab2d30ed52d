// Certificates as files, and gRPC and the metrics page over TLS.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <openssl/ssl.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "net/grpc_listener.h"
#include "net/grpc_time.h"
#include "net/listen_policy.h"
#include "net/metrics_server.h"
#include "net/tls_credentials.h"
#include "tests/net/certificates.h"

namespace coterie::net {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class TlsTest : public ::testing::Test {
 protected:
  ~TlsTest() override { std::filesystem::remove_all(folder_); }

  std::shared_ptr<TlsIdentity> Identity(const std::string& name, const std::string& ca) {
    auto started = TlsIdentity::Start(certificates_.Options(name, ca), nullptr);
    EXPECT_TRUE(started.ok()) << started.status();
    return started.ok() ? *started : nullptr;
  }
  std::string Refusal(const TlsOptions& options) {
    return std::string(TlsIdentity::Start(options, nullptr).status().message());
  }

  const std::filesystem::path folder_ =
      std::filesystem::path(::testing::TempDir()) /
      (std::string("tls_") + ::testing::UnitTest::GetInstance()->current_test_info()->name());
  Certificates certificates_{folder_};
};

TEST_F(TlsTest, WrongFilesAreNamedAtTheStart) {
  certificates_.Make("good");
  certificates_.Make("other");
  certificates_.Make("late", {.days_from = -9, .days_until = -1});
  certificates_.Make("early", {.days_from = 3, .days_until = 9});
  EXPECT_NE(Identity("good", "ca"), nullptr);
  TlsOptions options = certificates_.Options("good", "");
  options.key = certificates_.Key("other");
  EXPECT_THAT(Refusal(options), HasSubstr("is not that of the certificate"));
  EXPECT_THAT(Refusal(options), HasSubstr("other.key"));
  EXPECT_THAT(Refusal(certificates_.Options("late", "")), HasSubstr("late.pem: the certificate of"));
  EXPECT_THAT(Refusal(certificates_.Options("late", "")), HasSubstr("expired at 20"));
  EXPECT_THAT(Refusal(certificates_.Options("early", "")), HasSubstr("is valid from"));
  options = certificates_.Options("good", "");
  options.key.clear();
  EXPECT_THAT(Refusal(options), HasSubstr("are needed together"));
  options = certificates_.Options("good", "");
  options.cert = certificates_.Key("good");
  EXPECT_THAT(Refusal(options), HasSubstr("holds no certificate"));
  options = certificates_.Options("good", "");
  options.key = certificates_.Pem("good");
  EXPECT_THAT(Refusal(options), HasSubstr("holds no private key"));
  ASSERT_EQ(std::system(("openssl ec -aes128 -passout pass:geheim -in " + certificates_.Key("good") +
                         " -out " + (folder_ / "locked.key").string() + " 2>/dev/null")
                            .c_str()),
            0);
  options.key = folder_ / "locked.key";
  EXPECT_THAT(Refusal(options), HasSubstr("without a password"));
  options = certificates_.Options("good", "");
  options.peer_ca = folder_ / "none.pem";
  EXPECT_THAT(Refusal(options), HasSubstr("none.pem"));
  std::ofstream(folder_ / "empty.pem").close();
  options.peer_ca = folder_ / "empty.pem";
  // An empty file believes nobody, which must not come out as believing everybody.
  EXPECT_THAT(Refusal(options), HasSubstr("empty.pem holds no certificate"));
  EXPECT_EQ(NamesOfCertificate(*ReadFile(certificates_.Pem("good"), 1 << 20)), "localhost, 127.0.0.1");
}

TEST_F(TlsTest, WhatDoesNotFitLeavesTheOldInPlace) {
  certificates_.Make("mine");
  MetricsRegistry registry;
  TlsOptions options = certificates_.Options("mine", "");
  options.poll = absl::Hours(1);  // Refresh says when
  auto started = TlsIdentity::Start(options, &registry);
  ASSERT_TRUE(started.ok()) << started.status();
  const auto first = (*started)->Current();
  const auto context = (*started)->ServerContext();
  (*started)->Refresh();
  EXPECT_EQ((*started)->Current(), first);
  certificates_.Make("next");
  std::filesystem::copy_file(certificates_.Key("next"), certificates_.Key("mine"),
                             std::filesystem::copy_options::overwrite_existing);
  (*started)->Refresh();
  EXPECT_EQ((*started)->Current(), first);
  EXPECT_THAT(registry.Text(), HasSubstr("coterie_tls_reload_failures_total{tls=\"test\"} 1"));
  std::filesystem::copy_file(certificates_.Pem("next"), certificates_.Pem("mine"),
                             std::filesystem::copy_options::overwrite_existing);
  (*started)->Refresh();
  EXPECT_NE((*started)->Current(), first);
  EXPECT_NE((*started)->ServerContext(), context);
  const auto second = (*started)->Current();
  certificates_.Make("mine", {.days_from = -9, .days_until = -1});
  (*started)->Refresh();
  EXPECT_EQ((*started)->Current(), second);
  std::filesystem::remove(certificates_.Pem("mine"));
  (*started)->Refresh();
  EXPECT_EQ((*started)->Current(), second);
}

// A gRPC server with a health service.
class TlsListenerTest : public TlsTest {
 protected:
  void Serve(std::shared_ptr<TlsIdentity> identity) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    nothing_ = std::make_unique<grpc::CallbackGenericService>();
    builder.RegisterCallbackGenericService(nothing_.get());  // a server wants some service
    GrpcListenerOptions options;
    options.address = "127.0.0.1:0";
    if (identity != nullptr) options.credentials = TlsServerCredentials(std::move(identity));
    auto started = GrpcListener::Start(&builder, std::move(options), nullptr);
    ASSERT_TRUE(started.ok()) << started.status();
    listener_ = *std::move(started);
    listener_->server()->GetHealthCheckService()->SetServingStatus(true);
  }
  std::shared_ptr<grpc::Channel> Connect(std::shared_ptr<grpc::ChannelCredentials> credentials,
                                         const std::string& name = "") {
    grpc::ChannelArguments args;
    args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    if (!name.empty()) args.SetSslTargetNameOverride(name);
    return grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(listener_->port()), credentials, args);
  }
  std::shared_ptr<grpc::Channel> Connect(const std::string& cert, const std::string& ca,
                                         const std::string& name = "") {
    const auto material = ReadTlsMaterial(certificates_.Options(cert, ca));
    EXPECT_TRUE(material.ok()) << material.status();
    return Connect(TlsChannelCredentials(*material), name);
  }
  // Asks the health service; its answer is not of interest.
  grpc::Status Check(const std::shared_ptr<grpc::Channel>& channel) {
    grpc::GenericStub stub(channel);
    grpc::ClientContext context;
    context.set_deadline(GrpcDeadline(absl::Seconds(20)));
    const grpc::Slice nothing;
    grpc::ByteBuffer response;
    grpc::CompletionQueue queue;
    const auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check",
                                            grpc::ByteBuffer(&nothing, 1), &queue);
    call->StartCall();
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return status;
  }

  std::unique_ptr<grpc::CallbackGenericService> nothing_;
  std::unique_ptr<GrpcListener> listener_;
};

TEST_F(TlsListenerTest, OnlyWhoFitsIsServed) {
  certificates_.Make("server");
  certificates_.Make("client");
  certificates_.Make("stranger", {.ca = "other"});
  certificates_.Make("elsewhere", {.names = "DNS:elsewhere.example"});
  Serve(Identity("server", "ca"));
  EXPECT_TRUE(Check(Connect("client", "ca")).ok());
  EXPECT_TRUE(Check(Connect("client", "ca", "localhost")).ok());
  EXPECT_EQ(Check(Connect("", "ca")).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Check(Connect("stranger", "ca")).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Check(Connect("client", "other")).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Check(Connect("client", "ca", "elsewhere.example")).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Check(Connect(grpc::InsecureChannelCredentials())).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(Check(Connect("client", "ca")).ok());
}

TEST_F(TlsListenerTest, ANewCertificateIsForNewConnectionsAndOldOnesGoOn) {
  certificates_.Make("server");
  Serve(Identity("server", ""));
  const auto old = Connect("", "ca");
  ASSERT_TRUE(Check(old).ok());
  // From another authority: who believes the old one alone is refused from here on.
  certificates_.Make("server", {.ca = "other"});
  const MonotonicTime until = MonotonicNow() + absl::Seconds(20);
  while (!Check(Connect("", "other")).ok() && MonotonicNow() < until) absl::SleepFor(absl::Milliseconds(20));
  EXPECT_TRUE(Check(Connect("", "other")).ok());
  EXPECT_FALSE(Check(Connect("", "ca")).ok());
  EXPECT_TRUE(Check(old).ok());
}

TEST_F(TlsTest, MetricsAreServedOverTls) {
  certificates_.Make("server");
  certificates_.Make("scraper");
  MetricsRegistry registry;
  registry.Counter("coterie_test_total", "A test.").Increment();
  auto server = MetricsServer::Start(&registry, "127.0.0.1:0", nullptr, Identity("server", "ca"));
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string page = folder_ / "page";
  const auto fetch = [&](const std::string& arguments) {
    std::filesystem::remove(page);
    const std::string request = folder_ / "request";
    std::ofstream(request) << "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    (void)std::system(absl::StrCat("openssl s_client -quiet -connect 127.0.0.1:", (*server)->port(),
                                   " -CAfile ", certificates_.Pem("ca"), " ", arguments, " <", request, " >",
                                   page, " 2>/dev/null")
                          .c_str());
    return ReadFile(page, 1 << 20).value_or("");
  };
  const std::string shown =
      absl::StrCat("-cert ", certificates_.Pem("scraper"), " -key ", certificates_.Key("scraper"));
  EXPECT_THAT(fetch(shown), HasSubstr("coterie_test_total 1"));
  EXPECT_THAT(fetch(""), Not(HasSubstr("coterie_test_total")));
  EXPECT_THAT(fetch(shown), HasSubstr("coterie_test_total 1"));
}

TEST(ListenPolicyTest, LoopbackIsWhatOnlyThisMachineReaches) {
  for (const char* address : {"127.0.0.1:1", "127.9.9.9:0", "localhost:7070", "[::1]:5"}) {
    EXPECT_TRUE(IsLoopback(address)) << address;
  }
  for (const char* address : {"0.0.0.0:1", "[::]:1", ":7070", "10.0.0.1:7070", "nowhere.invalid:1", ""}) {
    EXPECT_FALSE(IsLoopback(address)) << address;
  }
}

TEST(ListenPolicyTest, NamesEveryListenerThatIsOpen) {
  const std::vector<ListenerAccess> listeners = {{"--listen", "0.0.0.0:1", false, "a lock"},
                                                 {"--http-listen", "127.0.0.1:2", false, "a lock"},
                                                 {"--admin-listen", ":3", true, "a lock"},
                                                 {"--metrics-host", "[::]:4", false, "a guard"},
                                                 {"--other", "", false, "nothing"}};
  const Status status = CheckListeners(listeners, false);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.ToString(), HasSubstr("--listen=0.0.0.0:1 wants a lock"));
  EXPECT_THAT(status.ToString(), HasSubstr("--metrics-host=[::]:4 wants a guard"));
  EXPECT_THAT(status.ToString(), HasSubstr("--insecure-listen"));
  EXPECT_THAT(status.ToString(), Not(HasSubstr("http-listen")));
  EXPECT_THAT(status.ToString(), Not(HasSubstr("admin-listen")));
  EXPECT_TRUE(CheckListeners(listeners, true).ok());
}

}  // namespace
}  // namespace coterie::net
