// What bytes are a request, where it ends, and what is refused with which code.
#include "gateway/http/server/request_parser.h"

#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/seed.h"

namespace coterie::gateway::http {
namespace {

using ::testing::HasSubstr;
using State = RequestParser::State;

constexpr char kPost[] =
    "POST /v1/x?y=1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello";

// Feeds everything at once; what is left over is not the request's.
struct Parsed {
  State state;
  RequestParser::Refusal refusal;
  HttpRequest request;
  size_t n_taken = 0;
};
Parsed ParseAll(std::string_view bytes, const ParserLimits& limits = {}) {
  RequestParser parser(limits);
  Parsed parsed;
  parsed.n_taken = parser.Put(bytes);
  parsed.state = parser.state();
  if (parsed.state == State::kRefused) parsed.refusal = parser.refusal();
  if (parsed.state == State::kDone) parsed.request = parser.Take();
  return parsed;
}

TEST(RequestParserTest, ReadsARequestInPiecesOfAnySize) {
  const std::string bytes = kPost;
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    RequestParser parser({});
    std::string inbox;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      EXPECT_NE(parser.state(), State::kDone);
      inbox += bytes.substr(at, piece);
      inbox.erase(0, parser.Put(inbox));
    }
    ASSERT_EQ(parser.state(), State::kDone) << piece;
    const HttpRequest request = parser.Take();
    EXPECT_EQ(request.method, "POST");
    EXPECT_EQ(request.path, "/v1/x");
    EXPECT_EQ(request.Header("content-type"), "application/json");
    EXPECT_EQ(request.body, "hello");
    EXPECT_TRUE(request.keep_alive);
    EXPECT_TRUE(IsRequestId(request.id));
  }
}

TEST(RequestParserTest, LeavesTheNextRequestAlone) {
  const std::string two = absl::StrCat(kPost, kPost);
  const Parsed parsed = ParseAll(two);
  EXPECT_EQ(parsed.state, State::kDone);
  EXPECT_EQ(parsed.n_taken, two.size() / 2);
}

TEST(RequestParserTest, ReadsChunksTrailersAndExtensions) {
  const Parsed parsed = ParseAll(
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3\r\nabc\r\n4;x=\"y\"\r\ndefg\r\n0\r\nX-Trailer: 1\r\n\r\n");
  ASSERT_EQ(parsed.state, State::kDone) << parsed.refusal.words;
  EXPECT_EQ(parsed.request.body, "abcdefg");
  EXPECT_EQ(parsed.request.Header("x-trailer"), "");
}

TEST(RequestParserTest, DecodesPaths) {
  const auto path = [](const std::string& target) {
    const Parsed parsed = ParseAll(absl::StrCat("GET ", target, " HTTP/1.1\r\nHost: a\r\n\r\n"));
    return parsed.state == State::kDone ? parsed.request.path : absl::StrCat("refused ", parsed.refusal.code);
  };
  EXPECT_EQ(path("/v1/models/a%40b"), "/v1/models/a@b");
  EXPECT_EQ(path("/a?b=/c"), "/a");
  EXPECT_EQ(path("http://host:80/v1/models?x"), "/v1/models");
  EXPECT_EQ(path("http://host"), "/");
  EXPECT_EQ(path("*"), "*");
  for (const char* bad : {"/%", "/%4", "/%zz", "/%00", "/%0a", "/%ff", "v1", "http://", "/\x80"}) {
    EXPECT_EQ(path(bad), "refused 400") << bad;
  }
}

TEST(RequestParserTest, RefusesWhatReadersDisagreeOn) {
  struct Case {
    int code;
    std::string words;
    std::string bytes;
  };
  const std::string get = "GET / HTTP/1.1\r\n", post = "POST / HTTP/1.1\r\nHost: a\r\n";
  const Case cases[] = {
      {400, "0 Host headers", get + "\r\n"},
      {400, "2 Host headers", get + "Host: a\r\nHost: b\r\n\r\n"},
      {400, "no HTTP/1.1 request", get + "Host : a\r\n\r\n"},
      {400, "no HTTP/1.1 request", get + "Host: a\r\n no: name\r\n: x\r\n\r\n"},
      {400, "no HTTP/1.1 request", "GET / HTTP/1.1\nHost: a\n\n"},
      {400, "no HTTP/1.1 request", std::string("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 29)},
      {400, "no HTTP/1.1 request", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n"},
      {400, "no HTTP/1.1 request", "GET /\r\n\r\n"},
      {400, "no HTTP/1.1 request", "GET / HTTP/1.1x\r\nHost: a\r\n\r\n"},
      {505, "HTTP/1.1", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
      {505, "HTTP/1.1", "GET / HTTP/3.0\r\nHost: a\r\n\r\n"},
      {400, "content-length", post + "Content-Length: x\r\n\r\n"},
      {400, "content-length", post + "Content-Length: -1\r\n\r\n"},
      {400, "content-length", post + "Content-Length: 18446744073709551616\r\n\r\n"},
      {400, "content-length", post + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"},
      {400, "more than one content-length", post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"},
      {400, "more than one content-length", post + "Content-Length: 3, 3\r\n\r\nabc"},
      {400, "", post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {400, "", post + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"},
      {400, "", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {501, "\"gzip, chunked\"", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
      {501, "\"identity\"", post + "Transfer-Encoding: identity\r\n\r\n"},
      {501, "\"chunked, gzip\"", post + "Transfer-Encoding: chunked, gzip\r\n\r\n"},
      {400, "HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {415, "\"gzip\"", post + "Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"},
      {417, "\"miracle\"", post + "Expect: miracle\r\nContent-Length: 1\r\n\r\n"},
      {400, "", post + "Transfer-Encoding: chunked\r\n\r\nzz\r\n"},
      {400, "", post + "Transfer-Encoding: chunked\r\n\r\n-1\r\nx"},
      {400, "", post + "Transfer-Encoding: chunked\r\n\r\n2\r\nabXX3\r\n"},
      {413, "4194304 bytes", post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"},
      {413, "4194304 bytes", post + "Content-Length: 4194305\r\n\r\n"},
  };
  for (const Case& c : cases) {
    const Parsed parsed = ParseAll(c.bytes);
    EXPECT_EQ(parsed.state, State::kRefused) << c.bytes;
    EXPECT_EQ(parsed.refusal.code, c.code) << c.bytes << parsed.refusal.words;
    EXPECT_THAT(parsed.refusal.words, HasSubstr(c.words)) << c.bytes;
  }
}

TEST(RequestParserTest, HoldsItsLimits) {
  ParserLimits limits;
  limits.max_head_bytes = 1000;
  limits.max_target_bytes = 100;
  limits.max_headers = 10;
  limits.max_body_bytes = 20;
  const std::string get = "GET / HTTP/1.1\r\nHost: a\r\n";
  EXPECT_EQ(ParseAll("GET /" + std::string(2000, 'a'), limits).refusal.code, 414);
  EXPECT_EQ(ParseAll("GET /" + std::string(200, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n", limits).refusal.code,
            414);
  EXPECT_EQ(ParseAll(get + "A: " + std::string(2000, 'a'), limits).refusal.code, 431);
  std::string many = get;
  for (int i = 0; i < 10; ++i) absl::StrAppend(&many, "H", i, ": 1\r\n");
  EXPECT_EQ(ParseAll(many + "\r\n", limits).refusal.code, 431);
  EXPECT_EQ(ParseAll("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 21\r\n\r\n", limits).refusal.code, 413);
  EXPECT_EQ(
      ParseAll("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n01234567890123456789", limits).state,
      State::kDone);
  // No head of a chunk and no trailer is longer than a head may be.
  const std::string chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  EXPECT_EQ(ParseAll(chunked + "1;" + std::string(2000, 'x'), limits).refusal.code, 400);
  EXPECT_EQ(ParseAll(chunked + "0\r\nA: " + std::string(2000, 'x'), limits).refusal.code, 400);
}

// Headers that come one by one are added up: the parser gets each as a call of its own.
TEST(RequestParserTest, AddsUpHeadersThatComeSlowly) {
  ParserLimits limits;
  limits.max_head_bytes = 1000;
  RequestParser parser(limits);
  parser.Put("GET / HTTP/1.1\r\nHost: a\r\n");
  int n = 0;
  std::string inbox;
  while (parser.state() == State::kHead && n < 100) {
    inbox += absl::StrCat("H", ++n, ": ", std::string(50, 'x'), "\r\n");
    inbox.erase(0, parser.Put(inbox));
  }
  ASSERT_EQ(parser.state(), State::kRefused);
  EXPECT_EQ(parser.refusal().code, 431);
  EXPECT_LE(n, 20);
}

TEST(RequestParserTest, SaysWhoKeepsTheConnection) {
  const auto keeps = [](const std::string& head) { return ParseAll(head + "\r\n").request.keep_alive; };
  EXPECT_TRUE(keeps("GET / HTTP/1.1\r\nHost: a\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"));
  EXPECT_FALSE(keeps("GET / HTTP/1.0\r\n"));
  EXPECT_TRUE(keeps("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"));
}

TEST(RequestParserTest, TakesTheClientsIdWhereItIsOne) {
  const auto id = [](const std::string& value) {
    return ParseAll("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: " + value + "\r\n\r\n").request.id;
  };
  EXPECT_EQ(id("req_1.2:3-4"), "req_1.2:3-4");
  for (const std::string& bad :
       {std::string("a b"), std::string(65, 'a'), std::string("a\"b"), std::string()}) {
    EXPECT_EQ(id(bad).size(), 32u) << bad;
  }
}

TEST(RequestParserTest, AsksForTheBodyOnlyWhereTheClientWaits) {
  RequestParser parser({});
  parser.Put("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  ASSERT_EQ(parser.state(), State::kBody);
  EXPECT_TRUE(parser.awaits_continue());
  parser.Put("abc");
  EXPECT_EQ(parser.state(), State::kDone);
}

// Whatever comes, in whatever pieces: no crash, no more taken than there is, and the same verdict.
TEST(RequestParserTest, JudgesBytesTheSameHoweverTheyAreCut) {
  std::mt19937_64 random(::coterie::testing::TestSeed());
  const std::string seeds[] = {
      kPost, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
      "GET /a%20b HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"};
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = seeds[random() % std::size(seeds)];
    for (uint64_t i = random() % 4; i > 0; --i) {
      const size_t at = random() % bytes.size();
      switch (random() % 3) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(at, 1 + random() % 3);
          break;
        default:
          bytes.insert(at, 1, "\r\n :;0"[random() % 6]);
      }
      if (bytes.empty()) bytes = "G";
    }
    const Parsed whole = ParseAll(bytes);
    RequestParser parser({});
    std::string inbox;
    size_t n_taken = 0;
    for (size_t at = 0;
         at < bytes.size() && parser.state() != State::kDone && parser.state() != State::kRefused;) {
      const size_t piece = std::min<size_t>(1 + random() % 7, bytes.size() - at);
      inbox += bytes.substr(at, piece);
      at += piece;
      const size_t n = parser.Put(inbox);
      ASSERT_LE(n, inbox.size());
      inbox.erase(0, n);
      n_taken += n;
    }
    // What is wrong with a head may be seen only when its end is there.
    ASSERT_EQ(parser.state() == State::kDone, whole.state == State::kDone) << bytes;
    if (whole.state != State::kDone) continue;
    ASSERT_EQ(n_taken, whole.n_taken) << bytes;
    ASSERT_EQ(parser.Take().body, whole.request.body) << bytes;
  }
}

}  // namespace
}  // namespace coterie::gateway::http
