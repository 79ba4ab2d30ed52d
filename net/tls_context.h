#ifndef COTERIE_NET_TLS_CONTEXT_H_
#define COTERIE_NET_TLS_CONTEXT_H_

#include <memory>
#include <string>

#include "common/status.h"
#include "net/tls_material.h"

struct ssl_ctx_st;
struct ssl_st;

namespace coterie::net {

// See TlsIdentity::ServerContext. `material` has been checked.
StatusOr<std::shared_ptr<ssl_ctx_st>> MakeServerContext(const TlsMaterial& material);

// What OpenSSL's queue of errors says, in words; empties it.
std::string TakeTlsErrors();
// The same of a handshake of `ssl` that failed: what was wrong with the other side's certificate comes first.
std::string TakeHandshakeErrors(const ssl_st* ssl);

}  // namespace coterie::net

#endif  // COTERIE_NET_TLS_CONTEXT_H_
