// `coterie keys`: writes the file that a gateway reads (--keys). Needs no gateway.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "common/api_keys.h"
#include "common/file.h"
#include "common/quoted.h"
#include "common/sequence.h"
#include "common/unix_time.h"
#include "model/store/file_lock.h"
#include "tools/coterie/command.h"
#include "tools/coterie/terminal.h"

namespace coterie::command {
namespace {

constexpr absl::Duration kLockTimeout = absl::Seconds(10);

struct KeysFile {
  std::string path;
  bool json = false;
};

void AddFileFlags(FlagSet* flags, KeysFile* file) {
  flags->Section("File");
  if (const char* path = std::getenv("COTERIE_KEYS"); path != nullptr) file->path = path;
  flags->String("file", &file->path, "FILE", "the gateway's --keys; without it $COTERIE_KEYS");
  flags->Bool("json", &file->json, "machine-readable output, one JSON object a line");
}

Status CheckPath(const KeysFile& file) {
  if (!file.path.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("--file is missing: name the keys file, or set COTERIE_KEYS");
}

// A file that is not there yet has no keys.
StatusOr<std::vector<ApiKey>> ReadKeys(const std::string& path) {
  const StatusOr<std::string> text = ReadFile(path, ApiKeyLimits::kMaxFileBytes);
  if (absl::IsNotFound(text.status())) return std::vector<ApiKey>();
  RETURN_IF_ERROR(text.status());
  return ParseApiKeys(*text, path);
}

// Whole or not at all, for its owner's eyes only; who owned it before owns it afterwards, so that root may
// add keys for a gateway that is not root's.
Status WriteKeys(const std::string& path, const std::vector<ApiKey>& keys) {
  const std::string text = PrintApiKeys(keys);
  RETURN_IF_ERROR(ParseApiKeys(text, path).status());  // its bounds, before a gateway meets them
  struct stat before {};
  const bool existed = stat(path.c_str(), &before) == 0;
  std::error_code error;
  // What a link names is replaced, not the link.
  std::filesystem::path target = std::filesystem::weakly_canonical(path, error);
  if (error) target = path;
  const std::filesystem::path folder = target.has_parent_path() ? target.parent_path() : ".";
  ASSIGN_OR_RETURN(const std::filesystem::path temporary, WriteTemporary(folder, text));
  if (chmod(temporary.c_str(), 0600) != 0) {
    const Status status = ErrnoStatus(errno, "cannot protect", temporary);
    std::filesystem::remove(temporary, error);
    return status;
  }
  // Without the right to give files away the file is ours, which the gateway's log will tell.
  if (existed && before.st_uid != geteuid() && chown(temporary.c_str(), before.st_uid, before.st_gid) != 0) {
    std::fprintf(stderr, "warning: %s now belongs to you; the gateway's user must be able to read it\n",
                 Printable(path).c_str());
  }
  return ReplaceFile(temporary, target);
}

// Reads, changes and writes the file while nobody else does.
Status Change(const std::string& path, const std::function<Status(std::vector<ApiKey>*)>& change) {
  ASSIGN_OR_RETURN(const std::unique_ptr<FileLock> lock, FileLock::Acquire(path + ".lock", kLockTimeout));
  ASSIGN_OR_RETURN(std::vector<ApiKey> keys, ReadKeys(path));
  RETURN_IF_ERROR(change(&keys));
  return WriteKeys(path, keys);
}

std::string StateOf(const ApiKey& key) {
  if (key.revoked) return "revoked";
  return key.expires_unix && *key.expires_unix <= UnixSeconds() ? "expired" : "valid";
}

nlohmann::json ToJson(const ApiKey& key) {
  nlohmann::json json = {{"id", key.id},
                         {"tenant", key.tenant},
                         {"state", StateOf(key)},
                         {"requests_per_minute", key.requests_per_minute},
                         {"tokens_per_minute", key.tokens_per_minute},
                         {"concurrent_requests", key.concurrent_requests},
                         {"max_priority", key.max_priority},
                         {"experts", nullptr},
                         {"expires", nullptr}};
  if (key.experts) json["experts"] = *key.experts;
  if (key.expires_unix) json["expires"] = FormatUtc(*key.expires_unix);
  if (key.created_unix != 0) json["created"] = FormatUtc(key.created_unix);
  return json;
}

void Print(const nlohmann::json& json) {
  std::printf("%s\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

int RunAdd(std::span<const std::string> args) {
  FlagSet flags(
      "coterie keys add",
      "Makes a key and adds it to the file, which holds its hash alone: the key is printed once, on "
      "standard output. A gateway with that file takes it within a second.");
  flags.Positionals("ID", 1, 1);
  ApiKey key;
  std::vector<std::string> experts;
  std::string expires;
  absl::Duration valid_for = absl::ZeroDuration();
  int max_priority = 0;
  uint64_t concurrent = 0;
  flags.String("tenant", &key.tenant, "NAME", "whose share and counters it falls under; empty: the ID");
  flags.Strings("experts", &experts, "PATTERNS",
                "names of the experts it may use, as shell patterns ('law-*,code'); none: all. The base is "
                "everybody's");
  flags.Int("requests-per-minute", &key.requests_per_minute, 0, ApiKeyLimits::kMaxPerMinute, "N",
            "0: no limit");
  flags.Int("tokens-per-minute", &key.tokens_per_minute, 0, ApiKeyLimits::kMaxPerMinute, "N",
            "of prompts and answers together; 0: no limit");
  flags.Int("concurrent", &concurrent, 0, ApiKeyLimits::kMaxConcurrent, "N",
            "requests at the same time; 0: no limit");
  flags.Int("max-priority", &max_priority, -kMaxPriority, kMaxPriority, "P",
            "a request that asks for more gets this");
  flags.String("expires", &expires, "DATE", "in UTC, such as 2027-01-31; empty: never");
  flags.Duration("valid-for", &valid_for, absl::ZeroDuration(), absl::Hours(24 * 3660),
                 "expires after so long; 0: see --expires");
  KeysFile file;
  AddFileFlags(&flags, &file);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  if (const Status status = CheckPath(file); !status.ok()) return Fail(status, file.json), kUsage;
  key.id = flags.positionals()[0];
  if (key.tenant.empty()) key.tenant = key.id;
  if (flags.was_set("experts")) key.experts = std::move(experts);
  key.concurrent_requests = static_cast<uint32_t>(concurrent);
  key.max_priority = max_priority;
  key.created_unix = UnixSeconds();
  if (!expires.empty()) {
    const StatusOr<int64_t> date = ParseUtc(expires);
    if (!date.ok()) return Fail(Annotate(date.status(), "--expires"), file.json), kUsage;
    key.expires_unix = *date;
  } else if (valid_for > absl::ZeroDuration()) {
    key.expires_unix = key.created_unix + absl::ToInt64Seconds(valid_for);
  }
  const std::string secret = DrawApiKey();
  key.digest = HashApiKey(secret);
  if (const Status status = ValidateApiKey(key); !status.ok()) return Fail(status, file.json), kUsage;
  const Status status = Change(file.path, [&key](std::vector<ApiKey>* keys) -> Status {
    for (const ApiKey& other : *keys) {
      if (other.id != key.id) continue;
      return absl::AlreadyExistsError(
          absl::StrCat("there is a key ", Quoted(key.id), " already; take another ID"));
    }
    keys->push_back(key);
    return absl::OkStatus();
  });
  if (!status.ok()) return Fail(status, file.json);
  if (file.json) {
    nlohmann::json json = ToJson(key);
    json["key"] = secret;
    Print(json);
  } else {
    std::fprintf(stderr, "key %s of tenant %s; it is shown this once:\n", key.id.c_str(),
                 Printable(key.tenant).c_str());
    std::printf("%s\n", secret.c_str());
  }
  return kDone;
}

std::string LimitText(uint64_t limit) { return limit == 0 ? "-" : absl::StrCat(limit); }

int RunListKeys(std::span<const std::string> args) {
  FlagSet flags("coterie keys list", "Lists the keys of the file; the keys themselves nobody can show.");
  KeysFile file;
  AddFileFlags(&flags, &file);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  if (const Status status = CheckPath(file); !status.ok()) return Fail(status, file.json), kUsage;
  const StatusOr<std::vector<ApiKey>> keys = ReadKeys(file.path);
  if (!keys.ok()) return Fail(keys.status(), file.json);
  std::vector<std::vector<std::string>> rows = {{"ID", "TENANT", "STATE", "EXPERTS", "REQUESTS/MIN",
                                                 "TOKENS/MIN", "CONCURRENT", "PRIORITY", "EXPIRES"}};
  for (const ApiKey& key : *keys) {
    if (file.json) {
      Print(ToJson(key));
      continue;
    }
    rows.push_back({key.id, key.tenant, StateOf(key), key.experts ? absl::StrJoin(*key.experts, ",") : "all",
                    LimitText(key.requests_per_minute), LimitText(key.tokens_per_minute),
                    LimitText(key.concurrent_requests), absl::StrCat(key.max_priority),
                    key.expires_unix ? FormatUtc(*key.expires_unix) : "never"});
  }
  if (!file.json) std::printf("%s", FormatTable(std::move(rows)).c_str());
  return kDone;
}

int RunRevoke(std::span<const std::string> args) {
  FlagSet flags("coterie keys revoke",
                "Revokes keys: gateways with that file refuse them within a second. Answers that have begun "
                "go on to their end.");
  flags.Positionals("ID...", 1, 10'000);
  KeysFile file;
  AddFileFlags(&flags, &file);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  if (const Status status = CheckPath(file); !status.ok()) return Fail(status, file.json), kUsage;
  const std::vector<std::string>& ids = flags.positionals();
  const Status status = Change(file.path, [&ids, &file](std::vector<ApiKey>* keys) -> Status {
    for (const std::string& id : ids) {
      const auto key =
          std::find_if(keys->begin(), keys->end(), [&id](const ApiKey& k) { return k.id == id; });
      if (key == keys->end()) {
        return absl::NotFoundError(absl::StrCat("there is no key ", Quoted(id), " in ", file.path));
      }
      key->revoked = true;
    }
    return absl::OkStatus();
  });
  if (!status.ok()) return Fail(status, file.json);
  for (const std::string& id : ids) {
    if (file.json) {
      Print({{"id", id}, {"state", "revoked"}});
    } else {
      std::printf("%s is revoked\n", id.c_str());
    }
  }
  return kDone;
}

constexpr Command kKeysCommands[] = {
    {"add", "make a key and add it to the file", RunAdd},
    {"list", "list the keys of the file", RunListKeys},
    {"revoke", "have gateways refuse keys", RunRevoke},
};

}  // namespace

int RunKeys(std::span<const std::string> args) { return RunOneOf("keys", kKeysCommands, args); }

}  // namespace coterie::command
