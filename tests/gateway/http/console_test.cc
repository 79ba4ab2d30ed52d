// The page at "/" and what it reads beside the API of others; tests/console drives it in a browser.
#include "gateway/http/console/console.h"

#include <map>
#include <string>

#include "common/api_keys.h"
#include "common/file.h"
#include "tests/gateway/http/api_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

class ConsoleTest : public ApiTest {
 protected:
  Reply Ask(std::string_view method, std::string_view path, std::string_view headers = {}) {
    HttpClient client = Connect();
    client.Send(absl::StrCat(ToAbsl(method), " ", ToAbsl(path), " HTTP/1.1\r\nHost: localhost\r\n",
                             ToAbsl(headers), "Content-Length: 0\r\n\r\n"));
    return client.Read(absl::Seconds(20), method == "HEAD");
  }
};

TEST_F(ConsoleTest, EveryFileHasItsTypeItsTagAndAStrictPolicy) {
  Start();
  std::map<std::string, std::string> types;
  for (const http::EmbeddedFile& file : http::ConsoleFiles()) {
    const std::string path = file.name == "index.html" ? "/" : absl::StrCat("/console/", ToAbsl(file.name));
    const Reply reply = Ask("GET", path);
    EXPECT_EQ(reply.code, 200) << path;
    EXPECT_EQ(reply.body, file.text);
    EXPECT_EQ(reply.headers.at("x-content-type-options"), "nosniff");
    EXPECT_EQ(reply.headers.at("cache-control"), "no-cache");
    const std::string& policy = reply.headers.at("content-security-policy");
    EXPECT_THAT(policy, HasSubstr("default-src 'none'"));
    EXPECT_THAT(policy, HasSubstr("frame-ancestors 'none'"));
    EXPECT_THAT(policy, HasSubstr("require-trusted-types-for 'script'"));
    EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
    EXPECT_THAT(policy, Not(HasSubstr("http")));
    types[path] = reply.headers.at("content-type");

    const std::string tag = reply.headers.at("etag");
    for (const std::string& known : {tag, absl::StrCat("\"old\", W/", tag), std::string("*")}) {
      HttpClient client = Connect();
      const Reply unchanged = client.Get(path, absl::StrCat("If-None-Match: ", known, "\r\n"));
      EXPECT_EQ(unchanged.code, 304) << known;
      EXPECT_EQ(unchanged.headers.at("etag"), tag);
      EXPECT_EQ(unchanged.headers.count("content-length"), 0u);
      EXPECT_EQ(client.Get("/health").code, 200) << "the connection goes on behind it";
    }
    EXPECT_EQ(Connect().Get(path, "If-None-Match: \"other\"\r\n").code, 200);
    const Reply head = Ask("HEAD", path);
    EXPECT_EQ(head.code, 200);
    EXPECT_EQ(head.headers.at("content-length"), std::to_string(file.text.size()));
    EXPECT_EQ(head.headers.at("etag"), tag);
    EXPECT_EQ(head.body, "");
  }
  EXPECT_EQ(types.at("/"), "text/html; charset=utf-8");
  EXPECT_EQ(types.at("/console/console.js"), "text/javascript; charset=utf-8");
  EXPECT_EQ(types.at("/console/console.css"), "text/css; charset=utf-8");
}

TEST_F(ConsoleTest, OtherMethodsAndPathsAreRefused) {
  Start();
  for (const char* method : {"POST", "PUT", "DELETE"}) {
    const Reply reply = Ask(method, "/");
    ExpectError(reply, 405, "is not served at /");
    EXPECT_EQ(reply.headers.at("allow"), "GET, HEAD, OPTIONS");
  }
  const Reply options = Ask("OPTIONS", "/console/console.js");
  EXPECT_EQ(options.code, 204);
  EXPECT_EQ(options.headers.at("allow"), "GET, HEAD, OPTIONS");
  for (const char* path : {"/console", "/console/", "/console/nothing.js", "/console/../console/console.js",
                           "/index.html", "//"}) {
    EXPECT_EQ(Ask("GET", path).code, 404) << path;
  }
}

TEST_F(ConsoleTest, CanBeLeftOut) {
  GatewayOptions options = HttpOptions({worker_.address()});
  options.console = false;
  Start(std::move(options));
  EXPECT_EQ(Ask("GET", "/").code, 404);
  EXPECT_EQ(Ask("GET", "/console/console.js").code, 404);
  EXPECT_EQ(Ask("GET", "/v1/models").code, 200);
}

TEST_F(ConsoleTest, TheMapHasEveryExpertAndPutsAnEmbeddingWhereItsPrototypeLies) {
  Start(HttpOptions({worker_.address()}), {"apples", "boats", "clouds", "dogs"});
  const json map = Connect().Get("/v1/map").Json();
  EXPECT_EQ(map.at("object"), "map");
  EXPECT_EQ(map.at("complete"), true);
  ASSERT_THAT(map.at("experts"), SizeIs(4));
  const auto centre = map.at("centre").get<std::vector<double>>();
  const auto axes = map.at("axes").get<std::vector<std::vector<double>>>();
  ASSERT_THAT(axes, SizeIs(2));
  for (const json& expert : map.at("experts")) {
    const std::string name = expert.at("name");
    ASSERT_THAT(expert.at("points"), SizeIs(1));
    const std::vector<float> question = FakeEmbedder::VectorOf(name);
    ASSERT_EQ(question.size(), centre.size());
    for (size_t axis = 0; axis < 2; ++axis) {
      double along = 0;
      for (size_t d = 0; d < centre.size(); ++d) along += axes[axis][d] * (question[d] - centre[d]);
      EXPECT_NEAR(along, expert.at("points")[0][axis].get<double>(), 2e-4) << name;
    }
  }
}

TEST_F(ConsoleTest, TheClusterNamesItsWorkersAndTheExpertsTheyHold) {
  Start(HttpOptions({worker_.address()}), {"apples"});
  const json cluster = Connect().Get("/v1/cluster").Json();
  EXPECT_EQ(cluster.at("object"), "cluster");
  EXPECT_EQ(cluster.at("experts"), 1);
  EXPECT_EQ(cluster.at("draining"), false);
  ASSERT_THAT(cluster.at("workers"), SizeIs(1));
  const json& worker = cluster.at("workers")[0];
  EXPECT_EQ(worker.at("health"), "ready");
  EXPECT_EQ(worker.at("address"), worker_.address());
  EXPECT_TRUE(worker.at("running").is_number_unsigned() && worker.at("kv_blocks_total").is_number_unsigned());
  EXPECT_TRUE(cluster.at("resident").is_array());
}

TEST_F(ConsoleTest, AKeySeesItsOwnExpertsOnTheMap) {
  ApiKey key;
  key.id = key.tenant = "ann";
  key.digest = HashApiKey("ann-secret");
  key.experts = {"b*"};
  ASSERT_TRUE(WriteFileAtomically((folder_ / "keys.json").string(), PrintApiKeys({key})).ok());
  GatewayOptions options = HttpOptions({worker_.address()});
  options.keys.file = folder_ / "keys.json";
  Start(std::move(options), {"apples", "boats"});
  const Reply reply = Connect().Get("/v1/map", "Authorization: Bearer ann-secret\r\n");
  ASSERT_THAT(reply.Json().at("experts"), SizeIs(1)) << reply.body;
  EXPECT_EQ(reply.Json()["experts"][0]["name"], "boats");
}

TEST_F(ConsoleTest, WithoutAnEmbedderTheMapIsEmpty) {
  gateway_ =
      std::make_unique<TestGateway>(HttpOptions({worker_.address()}), /*with_embedder=*/false, nullptr);
  ASSERT_TRUE(gateway_->Ready(1));
  EXPECT_THAT(Connect().Get("/v1/map").Json().at("experts"), SizeIs(0));
}

}  // namespace
}  // namespace coterie::gateway::testing
