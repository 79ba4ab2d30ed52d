#include "tools/coterie/publish_folders.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace coterie::command {
namespace {

// Of one stream; a gateway takes at most 10,000.
constexpr size_t kMaxTogether = 5000;

}  // namespace

StatusOr<client::PublishResults> PublishFolders(client::Client* client,
                                                std::span<const client::ExpertFolder> experts,
                                                const client::PublishOptions& options) {
  client::PublishResults results;
  if (experts.size() == 1) {
    results.push_back(client->PublishExpert(experts.front(), options));
    return results;
  }
  for (size_t begin = 0; begin < experts.size(); begin += kMaxTogether) {
    const size_t n = std::min(kMaxTogether, experts.size() - begin);
    ASSIGN_OR_RETURN(auto part, client->PublishExperts(experts.subspan(begin, n), options));
    std::move(part.begin(), part.end(), std::back_inserter(results));
  }
  return results;
}

}  // namespace coterie::command
