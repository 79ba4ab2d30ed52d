#include "tools/coterie/publish_folders.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace coterie::command {

StatusOr<client::PublishResults> PublishFolders(client::Client* client,
                                                std::span<const client::ExpertFolder> experts,
                                                const client::PublishOptions& options, size_t max_together) {
  client::PublishResults results;
  if (experts.size() == 1) {
    results.push_back(client->PublishExpert(experts.front(), options));
    return results;
  }
  for (size_t begin = 0; begin < experts.size(); begin += max_together) {
    const size_t n = std::min(max_together, experts.size() - begin);
    auto part = client->PublishExperts(experts.subspan(begin, n), options);
    if (!part.ok()) {
      if (begin == 0) return part.status();
      results.resize(experts.size(), part.status());  // the ones before are live all the same
      return results;
    }
    std::move(part->begin(), part->end(), std::back_inserter(results));
  }
  return results;
}

}  // namespace coterie::command
