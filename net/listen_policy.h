#ifndef COTERIE_NET_LISTEN_POLICY_H_
#define COTERIE_NET_LISTEN_POLICY_H_

#include <string>
#include <vector>

#include "common/status.h"

namespace coterie::net {

// Whether only this machine can reach what listens there: true of an address that names none but loopback
// ones. False for what cannot be resolved, and for every address (":7070").
bool IsLoopback(const std::string& address);

// One of a process's listeners, and what keeps strangers out there.
struct ListenerAccess {
  std::string flag;     // "--listen"
  std::string address;  // empty: it does not listen
  bool guarded = false;
  std::string how;  // what would guard it: "--keys, or --tls-cert"
};

// FailedPrecondition naming every listener that others can reach and nothing guards, what would, and the flag
// that says that this is meant. `insecure_listen` is that flag.
Status CheckListeners(const std::vector<ListenerAccess>& listeners, bool insecure_listen);

}  // namespace coterie::net

#endif  // COTERIE_NET_LISTEN_POLICY_H_
