#ifndef COTERIE_TESTS_NET_CERTIFICATES_H_
#define COTERIE_TESTS_NET_CERTIFICATES_H_

#include <filesystem>
#include <string>

#include "net/tls_identity.h"

namespace coterie::net {

// An authority and what it signs, made by OpenSSL's command as an operator would, in a folder of the test's
// own.
class Certificates {
 public:
  explicit Certificates(std::filesystem::path folder);

  struct Ask {
    std::string names = "DNS:localhost,IP:127.0.0.1";
    int days_from = -1;  // relative to now
    int days_until = 2;
    std::string ca = "ca";  // another name: another authority, made when it is first asked for
  };
  // `name`.pem and `name`.key; written over where they are there.
  void Make(const std::string& name, const Ask& ask);
  void Make(const std::string& name) { Make(name, Ask()); }

  std::string Pem(const std::string& name) const { return folder_ / (name + ".pem"); }
  std::string Key(const std::string& name) const { return folder_ / (name + ".key"); }
  // A server's or client's side with certificate `name` (empty: none), believing `ca` (empty: whoever).
  TlsOptions Options(const std::string& name, const std::string& ca) const;

 private:
  void MakeAuthority(const std::string& name);
  void Run(const std::string& arguments) const;

  const std::filesystem::path folder_;
};

}  // namespace coterie::net

#endif  // COTERIE_TESTS_NET_CERTIFICATES_H_
