#include "tests/cluster/asking.h"

#include <algorithm>

#include "gtest/gtest.h"
#include "tests/cluster/eventually.h"

namespace coterie::cluster {

Asking::Asking(const std::vector<v1::GenerationService::Stub*>& stubs,
               const std::vector<v1::GenerateRequest>& requests)
    : progress_(requests.size()), answers_(requests.size()) {
  for (size_t i = 0; i < requests.size(); ++i) {
    threads_.emplace_back([this, i, stub = stubs[i % stubs.size()], request = requests[i]] {
      answers_[i] = gateway::testing::Ask(stub, request, [&](const Answer& so_far) {
        progress_[i].tokens = so_far.token_ids.size();
        progress_[i].notice = !so_far.notices.empty();
      });
      progress_[i].ended = true;
    });
  }
}

Asking::~Asking() { Join(); }

bool Asking::WaitForTokens(size_t n, absl::Duration timeout) {
  return Eventually(
      [&] {
        return std::all_of(progress_.begin(), progress_.end(),
                           [&](const Progress& one) { return one.tokens >= n || one.ended; });
      },
      timeout);
}

bool Asking::WaitForNotice(absl::Duration timeout) {
  return Eventually(
      [&] {
        return ended() == progress_.size() ||
               std::any_of(progress_.begin(), progress_.end(),
                           [](const Progress& one) { return one.notice.load(); });
      },
      timeout);
}

size_t Asking::ended() const {
  return static_cast<size_t>(std::count_if(progress_.begin(), progress_.end(),
                                           [](const Progress& one) { return one.ended.load(); }));
}

const std::deque<Answer>& Asking::Join() {
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
  return answers_;
}

std::vector<std::string> Texts(const std::deque<Answer>& answers) {
  std::vector<std::string> texts;
  for (const Answer& answer : answers) {
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_TRUE(answer.route_came_first && answer.finish_came_last);
    EXPECT_FALSE(answer.text.empty());
    texts.push_back(answer.text);
  }
  return texts;
}

}  // namespace coterie::cluster
