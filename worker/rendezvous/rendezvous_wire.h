#ifndef COTERIE_WORKER_RENDEZVOUS_RENDEZVOUS_WIRE_H_
#define COTERIE_WORKER_RENDEZVOUS_RENDEZVOUS_WIRE_H_

#include <cstdint>
#include <string>

namespace coterie::worker {

// Of coterie.v1.RendezvousService. Another one is refused, and both are named.
inline constexpr uint32_t kRendezvousVersion = 1;

// 128 random bits of the system as 32 hexadecimal digits, for one gang: made by whoever forms it and handed
// to its members. Whoever does not know it can neither read nor take the keys of the gang's group.
std::string MakeRendezvousToken();

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_RENDEZVOUS_RENDEZVOUS_WIRE_H_
