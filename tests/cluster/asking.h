#ifndef COTERIE_TESTS_CLUSTER_ASKING_H_
#define COTERIE_TESTS_CLUSTER_ASKING_H_

#include <atomic>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "tests/gateway/client.h"

namespace coterie::cluster {

using gateway::testing::Answer;

// Several answers under way at once, each read by a thread of its own. What breaks things meanwhile is the
// test's own thread.
class Asking {
 public:
  // One request per stub and request, the stubs taken in turn. They outlive this.
  Asking(const std::vector<v1::GenerationService::Stub*>& stubs,
         const std::vector<v1::GenerateRequest>& requests);
  ~Asking();

  // Waits until every answer has `n` tokens (or has ended). False after `timeout`.
  bool WaitForTokens(size_t n, absl::Duration timeout = absl::Seconds(50));
  // Waits until some answer has got a notice (or all have ended). False after `timeout`.
  bool WaitForNotice(absl::Duration timeout = absl::Seconds(50));
  // Answers that have ended.
  size_t ended() const;
  // Waits for the end of all; in the order of the requests.
  const std::deque<Answer>& Join();

 private:
  struct Progress {
    std::atomic<size_t> tokens = 0;
    std::atomic<bool> notice = false;
    std::atomic<bool> ended = false;
  };
  std::deque<Progress> progress_;
  std::deque<Answer> answers_;
  std::vector<std::thread> threads_;
};

// The texts of all answers, each of which must have ended well.
std::vector<std::string> Texts(const std::deque<Answer>& answers);

}  // namespace coterie::cluster

#endif  // COTERIE_TESTS_CLUSTER_ASKING_H_
