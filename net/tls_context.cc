#include "net/tls_context.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <string_view>

#include "absl/strings/str_cat.h"

namespace coterie::net {
namespace {

// HTTP/1.1 is all that is spoken above; a client that offers other protocols and not this one is refused.
int ChooseProtocol(SSL*, const unsigned char** out, unsigned char* out_length, const unsigned char* in,
                   unsigned int in_length, void*) {
  static constexpr unsigned char kHttp[] = "\x08http/1.1";
  unsigned char* chosen = nullptr;
  const int result = SSL_select_next_proto(&chosen, out_length, kHttp, sizeof(kHttp) - 1, in, in_length);
  *out = chosen;
  return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

BIO* OpenPem(std::string_view pem) { return BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())); }

bool UseChain(SSL_CTX* context, std::string_view pem) {
  BIO* bio = OpenPem(pem);
  bool ok = false;
  for (bool first = true; X509* one = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr); first = false) {
    ok =
        first ? SSL_CTX_use_certificate(context, one) == 1 : ok && SSL_CTX_add1_chain_cert(context, one) == 1;
    X509_free(one);
  }
  BIO_free(bio);
  return ok;
}

bool UseKey(SSL_CTX* context, std::string_view pem) {
  BIO* bio = OpenPem(pem);
  EVP_PKEY* key = PEM_read_bio_PrivateKey(bio, nullptr, nullptr, nullptr);
  const bool ok = key != nullptr && SSL_CTX_use_PrivateKey(context, key) == 1;
  EVP_PKEY_free(key);
  BIO_free(bio);
  return ok;
}

bool Trust(SSL_CTX* context, std::string_view pem) {
  BIO* bio = OpenPem(pem);
  bool any = false;
  while (X509* one = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr)) {
    any = X509_STORE_add_cert(SSL_CTX_get_cert_store(context), one) == 1 || any;
    SSL_CTX_add_client_CA(context, one);
    X509_free(one);
  }
  BIO_free(bio);
  return any;
}

}  // namespace

StatusOr<std::shared_ptr<ssl_ctx_st>> MakeServerContext(const TlsMaterial& material) {
  const std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  ERR_clear_error();
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // A connection between two requests keeps no buffers: 34 KB less of 40.
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // A session that is taken up again would not show the client's certificate anew.
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context.get(), 0);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_TICKET);
  SSL_CTX_set_alpn_select_cb(context.get(), ChooseProtocol, nullptr);
  bool ok = UseChain(context.get(), material.cert_chain) && UseKey(context.get(), material.private_key) &&
            SSL_CTX_check_private_key(context.get()) == 1;
  if (ok && !material.peer_ca.empty()) {
    ok = Trust(context.get(), material.peer_ca);
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  const std::string errors = TakeTlsErrors();
  if (!ok) return absl::InvalidArgumentError(absl::StrCat("OpenSSL does not take the certificate: ", errors));
  return std::shared_ptr<ssl_ctx_st>(context);
}

std::string TakeTlsErrors() {
  std::string words;
  while (const unsigned long code = ERR_get_error()) {
    const char* reason = ERR_reason_error_string(code);
    absl::StrAppend(&words, words.empty() ? "" : "; ",
                    reason != nullptr ? reason : absl::StrCat("error ", absl::Hex(code)));
  }
  return words;
}

std::string TakeHandshakeErrors(const ssl_st* ssl) {
  const long result = SSL_get_verify_result(ssl);
  const std::string errors = TakeTlsErrors();
  if (result == X509_V_OK) return errors;
  return absl::StrCat("its certificate: ", X509_verify_cert_error_string(result), errors.empty() ? "" : "; ",
                      errors);
}

}  // namespace coterie::net
