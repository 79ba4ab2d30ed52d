// The gateway's listeners over TLS: HTTP by a client of OpenSSL's, gRPC by its own.
#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include <thread>

#include "common/clock.h"
#include "net/tls_credentials.h"
#include "tests/gateway/http/api_test_base.h"
#include "tests/net/certificates.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;

// One connection over TLS; blocks for 20 seconds at most.
class TlsClient {
 public:
  // `material`: whom it believes, and what it shows.
  TlsClient(int port, const net::TlsMaterial& material, const std::string& host = "localhost")
      : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
        context_(SSL_CTX_new(TLS_client_method())) {
    const timeval patience = {20, 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    Believe(material.peer_ca);
    if (!material.cert_chain.empty()) Show(material);
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
    ssl_ = SSL_new(context_);
    SSL_set1_host(ssl_, host.c_str());
    SSL_set_fd(ssl_, socket_.get());
    connected_ = SSL_connect(ssl_) == 1;
  }
  ~TlsClient() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }

  // The handshake was made. (TLS 1.3's client hears of its own refusal only when it reads.)
  bool connected() const { return connected_; }
  bool Send(const std::string& bytes) {
    return SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size())) == static_cast<int>(bytes.size());
  }
  // Until `words` came, or the end.
  std::string ReadUntil(const std::string& words) {
    while (!absl::StrContains(inbox_, words)) {
      char part[4096];
      const int n = SSL_read(ssl_, part, sizeof(part));
      if (n <= 0) break;
      inbox_.append(part, static_cast<size_t>(n));
    }
    return std::exchange(inbox_, "");
  }
  std::string Ask(const std::string& path, const json& body, bool close = true) {
    if (!connected_ ||
        !Send(HttpClient::PostRequest(path, body.dump(), close ? "Connection: close\r\n" : ""))) {
      return "";
    }
    return ReadUntil(close ? "\xff" : "\"usage\"");
  }

 private:
  void Believe(const std::string& pem) {
    BIO* bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
    while (X509* one = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr)) {
      X509_STORE_add_cert(SSL_CTX_get_cert_store(context_), one);
      X509_free(one);
    }
    BIO_free(bio);
  }
  void Show(const net::TlsMaterial& material) {
    BIO* cert = BIO_new_mem_buf(material.cert_chain.data(), static_cast<int>(material.cert_chain.size()));
    BIO* key = BIO_new_mem_buf(material.private_key.data(), static_cast<int>(material.private_key.size()));
    X509* x509 = PEM_read_bio_X509(cert, nullptr, nullptr, nullptr);
    EVP_PKEY* pkey = PEM_read_bio_PrivateKey(key, nullptr, nullptr, nullptr);
    EXPECT_EQ(SSL_CTX_use_certificate(context_, x509), 1);
    EXPECT_EQ(SSL_CTX_use_PrivateKey(context_, pkey), 1);
    X509_free(x509);
    EVP_PKEY_free(pkey);
    BIO_free(cert);
    BIO_free(key);
  }

  FileDescriptor socket_;
  SSL_CTX* context_;
  SSL* ssl_ = nullptr;
  bool connected_ = false;
  std::string inbox_;
};

class TlsGatewayTest : public ApiTest {
 protected:
  void StartTls(const std::string& client_ca, absl::Duration head_timeout = absl::Seconds(10)) {
    certificates_.Make("gateway");
    GatewayOptions options = HttpOptions({worker_.address()});
    options.admin_listen = "127.0.0.1:0";
    options.http.head_timeout = head_timeout;
    options.tls = certificates_.Options("gateway", client_ca);
    Start(std::move(options));
  }
  net::TlsMaterial As(const std::string& name, const std::string& ca) {
    const auto material = net::ReadTlsMaterial(certificates_.Options(name, ca));
    EXPECT_TRUE(material.ok()) << material.status();
    return *material;
  }
  std::string AskAs(const std::string& name, const std::string& ca, const std::string& host = "localhost") {
    return TlsClient(port(), As(name, ca), host).Ask("/v1/chat/completions", Chat(7, 12));
  }
  grpc::Status GenerateAs(const std::string& name, const std::string& ca, int at) {
    grpc::ChannelArguments args;
    args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto stub = v1::GenerationService::NewStub(grpc::CreateCustomChannel(
        absl::StrCat("127.0.0.1:", at), net::TlsChannelCredentials(As(name, ca)), args));
    return Ask(stub.get(), BaseRequest(7, 12)).status;
  }

  net::Certificates certificates_{folder_ / "tls"};
};

TEST_F(TlsGatewayTest, AnswersWholeAndInStreams) {
  StartTls("");
  const std::string whole = AskAs("", "ca");
  EXPECT_THAT(whole, HasSubstr("HTTP/1.1 200"));
  EXPECT_THAT(whole, HasSubstr(FakeText(7, 12)));
  TlsClient client(port(), As("", "ca"));
  ASSERT_TRUE(client.connected());
  // Twice on one connection, and a body that takes several records of TLS each way.
  for (int i = 0; i < 2; ++i) {
    json body = Chat(7, 40, {{"stream", true}});
    body["metadata"] = {{"padding", std::string(100'000, 'x')}};
    ASSERT_TRUE(client.Send(HttpClient::PostRequest("/v1/chat/completions", body.dump())));
    EXPECT_THAT(client.ReadUntil("0\r\n\r\n"), HasSubstr("data: [DONE]"));
  }
  EXPECT_TRUE(GenerateAs("", "ca", gateway_->server->port()).ok());
}

TEST_F(TlsGatewayTest, WhoSpeaksPlainlyIsTold) {
  StartTls("");
  const Reply reply = Connect().Post("/v1/chat/completions", Chat(1, 3));
  ExpectError(reply, 400, "speaks TLS");
  EXPECT_THAT(AskAs("", "ca"), HasSubstr("HTTP/1.1 200"));
}

TEST_F(TlsGatewayTest, ClientsShowACertificateWhereItIsAsked) {
  certificates_.Make("client");
  certificates_.Make("stranger", {.ca = "other"});
  StartTls("ca");
  EXPECT_THAT(AskAs("client", "ca"), HasSubstr("HTTP/1.1 200"));
  EXPECT_EQ(AskAs("", "ca"), "");
  EXPECT_EQ(AskAs("stranger", "ca"), "");
  EXPECT_EQ(AskAs("client", "ca", "elsewhere.example"), "");  // what this client would not take
  for (const int at : {gateway_->server->port(), gateway_->server->admin_port()}) {
    const auto code = at == gateway_->server->port() ? grpc::StatusCode::OK : grpc::StatusCode::UNIMPLEMENTED;
    EXPECT_EQ(GenerateAs("client", "ca", at).error_code(), code);
    EXPECT_EQ(GenerateAs("", "ca", at).error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(GenerateAs("stranger", "ca", at).error_code(), grpc::StatusCode::UNAVAILABLE);
  }
  EXPECT_THAT(core().metrics->registry->Text(), HasSubstr("coterie_http_tls_handshake_failures_total"));
  EXPECT_THAT(AskAs("client", "ca"), HasSubstr("HTTP/1.1 200"));
}

TEST_F(TlsGatewayTest, ANewCertificateInterruptsNothing) {
  StartTls("");
  TlsClient kept(port(), As("", "ca"));
  ASSERT_TRUE(kept.connected());
  EXPECT_THAT(kept.Ask("/v1/chat/completions", Chat(7, 12), /*close=*/false), HasSubstr("200 OK"));
  std::atomic<bool> stop = false;
  std::atomic<int> n_answers = 0;
  // Whoever believes both authorities never notices.
  net::TlsMaterial both = As("", "ca");
  certificates_.Make("other-sample", {.ca = "other"});
  both.peer_ca += As("", "other").peer_ca;
  std::thread traffic([&] {
    while (!stop) {
      const std::string reply = TlsClient(port(), both).Ask("/v1/chat/completions", Chat(7, 12));
      EXPECT_THAT(reply, HasSubstr("HTTP/1.1 200"));
      n_answers += absl::StrContains(reply, FakeText(7, 12));
    }
  });
  for (const std::string& ca : {std::string("other"), std::string("ca"), std::string("other")}) {
    certificates_.Make("gateway", {.ca = ca});
    EXPECT_TRUE(Eventually([&] { return absl::StrContains(AskAs("", ca), "HTTP/1.1 200"); })) << ca;
  }
  stop = true;
  traffic.join();
  EXPECT_GT(n_answers, 3);
  EXPECT_EQ(AskAs("", "ca"), "");
  EXPECT_THAT(kept.Ask("/v1/chat/completions", Chat(7, 12)), HasSubstr("200 OK"));
}

TEST_F(TlsGatewayTest, AHandshakeThatNeverEndsIsEnded) {
  StartTls("", absl::Milliseconds(200));
  HttpClient slow = Connect();
  ASSERT_TRUE(slow.Send("\x16\x03\x01\x02\x00\x01"));  // the beginning of a hello
  EXPECT_TRUE(slow.ClosedWithin(absl::Seconds(20)));
  HttpClient garbage = Connect();
  ASSERT_TRUE(garbage.Send(std::string(500, '\x16')));
  EXPECT_TRUE(garbage.ClosedWithin(absl::Seconds(20)));
  EXPECT_THAT(AskAs("", "ca"), HasSubstr("HTTP/1.1 200"));
}

TEST_F(TlsGatewayTest, AClientThatGoesCancelsItsAnswer) {
  StartTls("");
  {
    TlsClient client(port(), As("", "ca"));
    ASSERT_TRUE(client.Send(
        HttpClient::PostRequest("/v1/chat/completions", Chat(1, 4000, {{"stream", true}}).dump())));
    EXPECT_THAT(client.ReadUntil("data: "), HasSubstr("200 OK"));
  }
  EXPECT_TRUE(Eventually([&] { return worker_.live_sequences() == 0; }));
}

}  // namespace
}  // namespace coterie::gateway::testing
