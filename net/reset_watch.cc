#include "net/reset_watch.h"

#include <algorithm>

namespace coterie::net {

bool ResetWatch::Exceeds(int64_t connection, int64_t n_resets, MonotonicTime now) {
  const auto [it, is_new] = accounts_.try_emplace(connection);
  Account& account = it->second;
  account.recent = true;
  if (is_new) {  // what it did in the hours before is no offence
    account.n_resets = n_resets;
    account.left = limits_.burst;
    account.seen = now;
    return false;
  }
  const double earned = limits_.per_second * absl::ToDoubleSeconds(now - account.seen);
  account.left =
      std::min(limits_.burst, account.left + earned) - static_cast<double>(n_resets - account.n_resets);
  account.n_resets = n_resets;
  account.seen = now;
  return account.left < 0;
}

void ResetWatch::ForgetOthers() {
  absl::erase_if(accounts_, [](auto& one) { return !one.second.recent; });
  for (auto& [connection, account] : accounts_) account.recent = false;
}

}  // namespace coterie::net
