#ifndef COTERIE_GATEWAY_HTTP_SERVER_HOST_CHECK_H_
#define COTERIE_GATEWAY_HTTP_SERVER_HOST_CHECK_H_

#include <string>
#include <string_view>
#include <vector>

namespace coterie::gateway::http {

// Against DNS rebinding: whoever owns a name may have it point to 127.0.0.1 once their page is in somebody's
// browser, which then takes this listener for the page's own server and lets the page ask and read whatever
// it likes. The Host header still holds that name. Names that nobody can own in the public DNS are harmless:
// addresses, localhost, names without a dot (a proxy's name for its upstream), those below .localhost and
// .internal. For a listener on loopback; elsewhere every client comes by whatever name it knows.
class HostCheck {
 public:
  // `allowed`: further names, such as a proxy's in front; "*" for any.
  explicit HostCheck(const std::vector<std::string>& allowed);
  // `host`: the header's value; empty where there is none.
  bool Allows(std::string_view host) const;

 private:
  std::vector<std::string> allowed_;  // in lower case
  bool any_ = false;
};

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_SERVER_HOST_CHECK_H_
