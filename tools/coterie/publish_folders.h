#ifndef COTERIE_TOOLS_COTERIE_PUBLISH_FOLDERS_H_
#define COTERIE_TOOLS_COTERIE_PUBLISH_FOLDERS_H_

#include <span>

#include "tools/client/client.h"

namespace coterie::command {

// What `coterie up` and `coterie experts publish` have in common: one folder goes by Publish, many go
// together by PublishMany, at most `max_together` in one stream (a gateway takes 10,000). A result for each,
// in order; an error of the whole where not even the first stream came to an end.
StatusOr<client::PublishResults> PublishFolders(client::Client* client,
                                                std::span<const client::ExpertFolder> experts,
                                                const client::PublishOptions& options = {},
                                                size_t max_together = 5000);

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_PUBLISH_FOLDERS_H_
