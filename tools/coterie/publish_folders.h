#ifndef COTERIE_TOOLS_COTERIE_PUBLISH_FOLDERS_H_
#define COTERIE_TOOLS_COTERIE_PUBLISH_FOLDERS_H_

#include <span>

#include "tools/client/client.h"

namespace coterie::command {

// What `coterie up` and `coterie experts publish` have in common: one folder goes by Publish, many go
// together by PublishMany. A result for each, in order.
StatusOr<client::PublishResults> PublishFolders(client::Client* client,
                                                std::span<const client::ExpertFolder> experts,
                                                const client::PublishOptions& options = {});

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_PUBLISH_FOLDERS_H_
