#include "gateway/access/access_pass.h"

namespace coterie::gateway {

AccessPass::~AccessPass() {
  if (holds_place_) entry_->use->End();
  CountTokens();
}

void AccessPass::CountTokens() {
  const uint64_t n = n_spent_.exchange(0);
  if (n > 0) metrics_->tenant_tokens.Increment(entry_->key.tenant, static_cast<double>(n));
}

// The place is held until the last task ends. One that ends before the next begins (a choice that fails at
// once) gives it back, and the next takes another: that costs a request more, of a request that failed.
Status AccessPass::Enter() {
  MutexLock lock(&mutex_);
  if (!holds_place_) {
    const KeyUse::Refusal refusal = entry_->use->Begin(entry_->key, clock_());
    if (refusal.what != KeyUse::Short::kNothing) {
      constexpr const char* kReasons[] = {"", "requests", "tokens", "concurrent"};
      metrics_->CountRefusal(kReasons[static_cast<size_t>(refusal.what)]);
      metrics_->tenant_refusals.Increment(entry_->key.tenant);
      return refusal.status;
    }
    holds_place_ = true;
  }
  ++n_tasks_;
  return absl::OkStatus();
}

void AccessPass::Leave() {
  MutexLock lock(&mutex_);
  if (--n_tasks_ > 0) return;
  holds_place_ = false;
  entry_->use->End();
  CountTokens();
}

void AccessPass::SpendTokens(uint64_t n) {
  if (n == 0) return;
  entry_->use->SpendTokens(n, clock_());
  n_spent_ += n;
}

}  // namespace coterie::gateway
