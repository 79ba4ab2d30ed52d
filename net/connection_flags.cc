#include "net/connection_flags.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "net/clock_watch.h"
#include "net/descriptors.h"

namespace coterie::net {

StatusOr<AcceptorOptions> ConnectionFlags::Resolve(const std::string& listener, int n_listeners) const {
  AcceptorOptions options;
  options.listener = listener;
  ASSIGN_OR_RETURN(options.max_connections,
                   PlacesForConnections(max_connections, CurrentDescriptorLimit(), n_listeners));
  if (max_connections_per_address > options.max_connections) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-connections-per-address=", max_connections_per_address, " is more than the ",
                     options.max_connections, " connections in all; lower it, or raise --max-connections"));
  }
  options.max_per_client = max_connections_per_address > 0 ? static_cast<int>(max_connections_per_address)
                                                           : std::max(1, options.max_connections / 2);
  options.every_second = [watch = std::make_shared<ClockWatch>()] { watch->Look(); };
  return options;
}

}  // namespace coterie::net
