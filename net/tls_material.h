#ifndef COTERIE_NET_TLS_MATERIAL_H_
#define COTERIE_NET_TLS_MATERIAL_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace coterie::net {

// Certificates and a private key as PEM text, looked at whole before anything uses them: what a TLS library
// would refuse one connection after the other is refused here once, in words that name the file and the
// fault.
struct TlsMaterial {
  std::string cert_chain;    // ours first, then those that vouch for it; empty: we show none
  std::string private_key;   // of the first
  std::string peer_ca;       // whom we believe; empty: of a server, whoever comes; of a client, the system's
  int64_t expires_unix = 0;  // of the soonest to end of the chain; 0 without one
};

// What the three files are called; empty: there is none.
struct TlsFileNames {
  std::string cert;
  std::string key;
  std::string peer_ca;
};

// InvalidArgument naming the file where a text is no PEM of its kind, the key is not the certificate's or is
// encrypted; FailedPrecondition where a certificate of the chain has expired at `now_unix`, or is not valid
// yet. Private keys never stand in an error.
StatusOr<TlsMaterial> CheckTlsMaterial(TlsMaterial material, const TlsFileNames& names, int64_t now_unix);

// The names (DNS and IP) that the first certificate of `pem` is for, joined by commas; for log lines.
std::string NamesOfCertificate(std::string_view pem);

}  // namespace coterie::net

#endif  // COTERIE_NET_TLS_MATERIAL_H_
