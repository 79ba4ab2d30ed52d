#ifndef COTERIE_COMMON_LOST_WORKER_H_
#define COTERIE_COMMON_LOST_WORKER_H_

#include <string>

#include "common/status.h"

namespace coterie {

// An error of a gang that came through one of its workers: where the sequence goes on, that one is left out
// and the one that tells of it is not.
Status MarkLostWorker(Status status, const std::string& worker);
// Its name; empty for any other error.
std::string LostWorker(const Status& status);

}  // namespace coterie

#endif  // COTERIE_COMMON_LOST_WORKER_H_
