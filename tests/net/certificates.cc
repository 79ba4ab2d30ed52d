#include "tests/net/certificates.h"

#include <cstdlib>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/unix_time.h"

namespace coterie::net {
namespace {

// "20261130120000Z", as OpenSSL's command takes it.
std::string Stamp(int days) {
  std::string text = FormatUtc(UnixSeconds() + int64_t{days} * 24 * 3600), stamp;
  for (const char c : text) {
    if (c >= '0' && c <= '9') stamp += c;
  }
  return stamp + "Z";
}

}  // namespace

Certificates::Certificates(std::filesystem::path folder) : folder_(std::move(folder)) {
  std::filesystem::create_directories(folder_);
  MakeAuthority("ca");
}

void Certificates::Run(const std::string& arguments) const {
  const std::string log = folder_ / "openssl.log";
  const std::string command = absl::StrCat("openssl ", arguments, " >", log, " 2>&1");
  if (std::system(command.c_str()) == 0) return;
  std::ifstream file(log);
  COTERIE_CHECK(false) << command << ": "
                       << std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

void Certificates::MakeAuthority(const std::string& name) {
  Run(absl::StrCat("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=", name,
                   " -keyout ", Key(name), " -out ", Pem(name)));
}

void Certificates::Make(const std::string& name, const Ask& ask) {
  if (!std::filesystem::exists(Pem(ask.ca))) MakeAuthority(ask.ca);
  const std::string request = folder_ / (name + ".csr"), extensions = folder_ / (name + ".ext");
  const std::string book = folder_ / "book", serial = folder_ / "serial", config = folder_ / "ca.cnf";
  const std::string pem = folder_ / (name + ".new.pem"), key = folder_ / (name + ".new.key");
  Run(absl::StrCat("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=", name, " -keyout ",
                   key, " -out ", request));
  std::ofstream(extensions) << "subjectAltName=" << ask.names << "\n";
  std::ofstream(book).close();
  std::ofstream(config) << "[ca]\ndefault_ca=one\n[one]\ndatabase=" << book
                        << "\nnew_certs_dir=" << folder_.string()
                        << "\nrand_serial=yes\ndefault_md=sha256\npolicy=any\nunique_subject=no\n"
                        << "[any]\ncommonName=supplied\n";
  Run(absl::StrCat("ca -batch -notext -config ", config, " -cert ", Pem(ask.ca), " -keyfile ", Key(ask.ca),
                   " -startdate ", Stamp(ask.days_from), " -enddate ", Stamp(ask.days_until), " -extfile ",
                   extensions, " -in ", request, " -out ", pem));
  // The key first: a reader in between sees a pair that does not fit, as with most tools that renew.
  std::filesystem::rename(key, Key(name));
  std::filesystem::rename(pem, Pem(name));
}

TlsOptions Certificates::Options(const std::string& name, const std::string& ca) const {
  TlsOptions options;
  options.name = "test";
  if (!name.empty()) {
    options.cert = Pem(name);
    options.key = Key(name);
  }
  if (!ca.empty()) options.peer_ca = Pem(ca);
  options.poll = absl::Milliseconds(10);
  return options;
}

}  // namespace coterie::net
