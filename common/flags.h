#ifndef COTERIE_COMMON_FLAGS_H_
#define COTERIE_COMMON_FLAGS_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "common/status.h"
#include "common/wrapped_text.h"

namespace coterie {

// The command line of one program or subcommand, declared flag by flag:
//
//   FlagSet flags("coterie-worker", "Runs one base model on one device.");
//   flags.String("model", &options.model, "PATH", "GGUF file or Hugging Face folder");
//   flags.Int("threads", &options.threads, 0, 1024, "N", "compute threads; 0: one per core");
//   Status status = flags.Parse(args);            // args without the program's name
//   if (flags.help_requested()) { puts(flags.Help().c_str()); return 0; }
//
// The variable's value when it is declared is the default that help shows; one that the flag itself would
// refuse (0, where what is accepted begins at 1) stands for "none", and help says so. Accepted:
// `--name=value`,
// `--name value`, `--switch`, `--no-switch`, `--switch=true|false`, `--help` and `-h`; `--` ends the flags,
// the rest is positional. Errors (InvalidArgument) name the flag, the value and what is allowed; an unknown
// flag is answered with the nearest known one. Variables are borrowed and must outlive Parse. Not
// thread-safe.
class FlagSet {
 public:
  FlagSet(std::string program, std::string summary);

  // A heading in the help for the flags declared after it.
  void Section(std::string title);
  // What stands after the flags in the usage line, such as "QUESTION..."; without it, positionals are
  // refused.
  void Positionals(std::string usage, size_t min_count, size_t max_count);
  // `-x` as another way to write `--name` (declared before).
  void Short(char letter, std::string_view name);
  // Makes leaving out `--name` an error.
  void Required(std::string_view name);

  void String(std::string name, std::string* value, std::string meta, std::string help);
  // Comma-separated and repeatable: --serves 'law-*,med-*' --serves code. The first use replaces the default.
  void Strings(std::string name, std::vector<std::string>* value, std::string meta, std::string help);
  void Bool(std::string name, bool* value, std::string help);
  void Int(std::string name, int* value, int64_t min, int64_t max, std::string meta, std::string help);
  void Int(std::string name, int64_t* value, int64_t min, int64_t max, std::string meta, std::string help);
  void Int(std::string name, uint64_t* value, uint64_t min, uint64_t max, std::string meta, std::string help);
  void Double(std::string name, double* value, double min, double max, std::string meta, std::string help);
  // "250ms", "5s", "1m30s".
  void Duration(std::string name, absl::Duration* value, absl::Duration min, absl::Duration max,
                std::string help);
  // Bytes with an optional unit: 4096, 64KiB, 512M, 2G (powers of 1024).
  void Bytes(std::string name, uint64_t* value, uint64_t min, uint64_t max, std::string help);
  void Choice(std::string name, std::string* value, std::vector<std::string> allowed, std::string help);

  // With --help anywhere before `--`, returns Ok without looking at the rest.
  Status Parse(std::span<const std::string> args);
  Status Parse(int argc, const char* const* argv);  // skips argv[0]

  bool help_requested() const { return help_requested_; }
  const std::vector<std::string>& positionals() const { return positionals_; }
  // True if the flag stood on the command line.
  bool was_set(std::string_view name) const;
  // Lines of at most `columns`, 60 or more; a flag with a long list of choices may need a longer one.
  std::string Help(size_t columns = HelpColumns()) const;

 private:
  using Setter = std::function<Status(std::string_view name, const std::string& value)>;
  struct Flag {
    std::string name;
    std::string meta;  // empty: a switch
    std::string help;
    std::string default_text;
    std::string section;
    char short_letter = 0;
    bool required = false;
    bool seen = false;
    Setter set;
  };
  void Add(std::string name, std::string meta, std::string help, std::string default_text, Setter set);
  Flag* Find(std::string_view name);
  const Flag* Find(std::string_view name) const;
  static std::string DefaultInWords(const Flag& flag);
  Status UnknownFlag(std::string_view written) const;
  Status SetFlag(Flag* flag, const std::string& value);
  struct Written {
    Flag* flag = nullptr;  // null: there is none of that name
    std::string name;      // without dashes
    bool negated = false;  // --no-name
  };
  // What `written`, an argument up to its '=', names.
  Written LookUp(const std::string& written);
  // Whether all is there that must be, and nothing more.
  Status CheckComplete() const;

  std::string program_;
  std::string summary_;
  std::string section_;
  std::string positional_usage_;
  size_t min_positionals_ = 0;
  size_t max_positionals_ = 0;
  std::vector<Flag> flags_;
  std::vector<std::string> positionals_;
  bool help_requested_ = false;
};

}  // namespace coterie

#endif  // COTERIE_COMMON_FLAGS_H_
