#ifndef COTERIE_NET_TLS_CREDENTIALS_H_
#define COTERIE_NET_TLS_CREDENTIALS_H_

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>

#include "net/tls_identity.h"

namespace coterie::net {

// gRPC's side of a server with that identity, which has a certificate: each handshake uses what the identity
// holds at that moment. (gRPC's own watcher of files would take a key that is not the certificate's.)
std::shared_ptr<grpc::ServerCredentials> TlsServerCredentials(std::shared_ptr<TlsIdentity> identity);

// Of a client, as the identity is now: for channels that are made anew for every connection.
std::shared_ptr<grpc::ChannelCredentials> TlsChannelCredentials(const TlsMaterial& material);

}  // namespace coterie::net

#endif  // COTERIE_NET_TLS_CREDENTIALS_H_
