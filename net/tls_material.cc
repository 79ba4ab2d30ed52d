#include "net/tls_material.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_join.h"
#include "common/quoted.h"
#include "common/unix_time.h"

namespace coterie::net {
namespace {

template <auto Free>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Bio = std::unique_ptr<BIO, Freed<BIO_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;

// OpenSSL would ask the terminal.
int NoPassword(char*, int, int, void*) { return -1; }

Bio Open(std::string_view text) { return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }

std::vector<Certificate> ReadCertificates(std::string_view pem) {
  std::vector<Certificate> certificates;
  const Bio bio = Open(pem);
  while (X509* one = PEM_read_bio_X509(bio.get(), nullptr, NoPassword, nullptr)) {
    certificates.emplace_back(one);
  }
  ERR_clear_error();  // the last look found none
  return certificates;
}

int64_t UnixOf(const ASN1_TIME* time) {
  std::tm broken{};
  return ASN1_TIME_to_tm(time, &broken) == 1 ? static_cast<int64_t>(timegm(&broken)) : 0;
}

std::string SubjectOf(const X509* certificate) {
  const Bio bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), X509_get_subject_name(certificate), 0, XN_FLAG_ONELINE);
  char* text = nullptr;
  const long n = BIO_get_mem_data(bio.get(), &text);
  return Quoted({text, static_cast<size_t>(std::max(0L, n))});
}

Status CheckDates(const X509* certificate, const std::string& file, int64_t now_unix) {
  const int64_t from = UnixOf(X509_get0_notBefore(certificate));
  const int64_t until = UnixOf(X509_get0_notAfter(certificate));
  if (now_unix >= until) {
    return absl::FailedPreconditionError(absl::StrCat(file, ": the certificate of ", SubjectOf(certificate),
                                                      " expired at ", FormatUtc(until), "; renew it"));
  }
  if (now_unix < from) {
    return absl::FailedPreconditionError(absl::StrCat(file, ": the certificate of ", SubjectOf(certificate),
                                                      " is valid from ", FormatUtc(from),
                                                      " on; look at this machine's clock, or wait"));
  }
  return absl::OkStatus();
}

StatusOr<std::vector<Certificate>> Certificates(std::string_view pem, const std::string& file) {
  std::vector<Certificate> certificates = ReadCertificates(pem);
  if (!certificates.empty()) return certificates;
  return absl::InvalidArgumentError(
      absl::StrCat(file, " holds no certificate in PEM (\"-----BEGIN CERTIFICATE-----\")"));
}

}  // namespace

StatusOr<TlsMaterial> CheckTlsMaterial(TlsMaterial material, const TlsFileNames& names, int64_t now_unix) {
  // By the names: a file that is there and empty believes nobody, not everybody.
  if (!names.peer_ca.empty()) {
    ASSIGN_OR_RETURN(const auto trusted, Certificates(material.peer_ca, names.peer_ca));
    // Some of many may have expired; when all have, nobody can be believed.
    Status dates;
    for (const Certificate& one : trusted) {
      dates = CheckDates(one.get(), names.peer_ca, now_unix);
      if (dates.ok()) break;
    }
    RETURN_IF_ERROR(dates);
  }
  if (names.cert.empty() && names.key.empty()) return material;
  ASSIGN_OR_RETURN(const auto chain, Certificates(material.cert_chain, names.cert));
  const Bio bio = Open(material.private_key);
  const Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, nullptr));
  ERR_clear_error();
  if (key == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(names.key, " holds no private key in PEM that can be read without a password"));
  }
  if (X509_check_private_key(chain.front().get(), key.get()) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError(absl::StrCat("the key of ", names.key,
                                                   " is not that of the certificate of ",
                                                   SubjectOf(chain.front().get()), " in ", names.cert));
  }
  for (const Certificate& one : chain) {
    RETURN_IF_ERROR(CheckDates(one.get(), names.cert, now_unix));
    const int64_t until = UnixOf(X509_get0_notAfter(one.get()));
    if (material.expires_unix == 0 || until < material.expires_unix) material.expires_unix = until;
  }
  return material;
}

std::string NamesOfCertificate(std::string_view pem) {
  const std::vector<Certificate> chain = ReadCertificates(pem);
  if (chain.empty()) return "";
  std::vector<std::string> names;
  auto* found = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(chain.front().get(), NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(found); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(found, i);
    const auto text = [](const ASN1_STRING* string) {
      return std::string_view(reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
                              static_cast<size_t>(ASN1_STRING_length(string)));
    };
    if (name->type == GEN_DNS) names.push_back(Shown(text(name->d.dNSName)));
    if (name->type == GEN_IPADD) {
      const std::string_view bytes = text(name->d.iPAddress);
      char address[INET6_ADDRSTRLEN] = "";
      inet_ntop(bytes.size() == 4 ? AF_INET : AF_INET6, bytes.data(), address, sizeof(address));
      if (bytes.size() == 4 || bytes.size() == 16) names.emplace_back(address);
    }
  }
  GENERAL_NAMES_free(found);
  return absl::StrJoin(names, ", ");
}

}  // namespace coterie::net
