#include "kernels/comm/gloo.h"

#ifndef COTERIE_WITH_GLOO

namespace coterie {

StatusOr<std::unique_ptr<Communicator>> CreateGlooCommunicator(const GlooOptions&,
                                                               std::shared_ptr<Rendezvous>,
                                                               CommunicatorOptions) {
  return absl::UnimplementedError(
      "this binary was built without Gloo; install libgloo-dev and build again with COTERIE_GLOO=ON");
}

}  // namespace coterie

#endif
