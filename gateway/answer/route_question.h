#ifndef COTERIE_GATEWAY_ANSWER_ROUTE_QUESTION_H_
#define COTERIE_GATEWAY_ANSWER_ROUTE_QUESTION_H_

#include <functional>
#include <memory>

#include "gateway/answer/admitted_task.h"
#include "gateway/answer/preparation.h"

namespace coterie::gateway {

// Decides who would answer, as Generation does, and asks nobody to.
class RouteQuestion final : public AdmittedTask {
 public:
  using Callback = std::function<void(StatusOr<Decision>)>;
  // The request has been validated; its sampling does not matter. `done` is called once, unless Cancel comes
  // first; it must not wait.
  static std::shared_ptr<RouteQuestion> Create(const GatewayCore* core, AnswerRequest request, Callback done);

 private:
  RouteQuestion(const GatewayCore* core, AnswerRequest request, Callback done);

  void Run() override;
  void Ended(const Status& status) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  AnswerRequest request_;
  Callback done_callback_;
  Decision decision_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_ROUTE_QUESTION_H_
