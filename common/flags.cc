#include "common/flags.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/check.h"
#include "common/nearest.h"
#include "common/quoted.h"
#include "common/wrapped_text.h"

namespace coterie {
namespace {

Status Bad(std::string_view name, const std::string& value, std::string_view wants) {
  return absl::InvalidArgumentError(absl::StrCat("--", ToAbsl(name), "=", Shown(value), ": ", ToAbsl(wants)));
}

template <typename T>
auto IntSetter(T* target, auto min, auto max) {
  using Wide = decltype(min);
  return [=](std::string_view name, const std::string& text) -> Status {
    Wide parsed = 0;
    if (!absl::SimpleAtoi(text, &parsed)) return Bad(name, text, "is not a whole number");
    if (parsed < min || parsed > max) {
      return Bad(name, text, absl::StrCat("must lie between ", min, " and ", max));
    }
    *target = static_cast<T>(parsed);
    return absl::OkStatus();
  };
}

std::string BytesText(uint64_t bytes) {
  static constexpr std::pair<int, const char*> kUnits[] = {
      {40, "TiB"}, {30, "GiB"}, {20, "MiB"}, {10, "KiB"}};
  for (auto [shift, unit] : kUnits) {
    if (bytes >> shift && (bytes & ((uint64_t{1} << shift) - 1)) == 0)
      return absl::StrCat(bytes >> shift, unit);
  }
  return absl::StrCat(bytes);
}

// What help shows as the default. A value that the flag does not accept stands for its absence.
template <typename T, typename Limit>
std::string DefaultText(const T& value, const Limit& min, const Limit& max, const std::string& text) {
  return value < min || value > max ? "" : text;
}

std::string DurationText(absl::Duration time) {
  return time == absl::InfiniteDuration() ? "inf: no limit" : absl::FormatDuration(time);
}

bool ParseBytes(std::string_view text, uint64_t* bytes) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  uint64_t number = 0;
  if (!absl::SimpleAtoi(ToAbsl(text.substr(0, digits)), &number)) return false;
  const std::string_view unit = text.substr(digits);
  int shift = -1;
  if (unit.empty() || unit == "B") shift = 0;
  const std::string_view letters = "KMGT";
  for (size_t i = 0; i < letters.size(); ++i) {
    const std::string letter(1, letters[i]);
    if (unit == letter || unit == letter + "B" || unit == letter + "iB") shift = 10 * static_cast<int>(i + 1);
  }
  if (shift < 0 || (shift > 0 && number >> (64 - shift))) return false;
  *bytes = number << shift;
  return true;
}

}  // namespace

FlagSet::FlagSet(std::string program, std::string summary)
    : program_(std::move(program)), summary_(std::move(summary)) {}

void FlagSet::Section(std::string title) { section_ = std::move(title); }

void FlagSet::Positionals(std::string usage, size_t min_count, size_t max_count) {
  positional_usage_ = std::move(usage);
  min_positionals_ = min_count;
  max_positionals_ = max_count;
}

void FlagSet::Short(char letter, std::string_view name) {
  Flag* flag = Find(name);
  COTERIE_CHECK(flag != nullptr) << name;
  flag->short_letter = letter;
}

void FlagSet::Required(std::string_view name) {
  Flag* flag = Find(name);
  COTERIE_CHECK(flag != nullptr) << name;
  flag->required = true;
}

void FlagSet::Add(std::string name, std::string meta, std::string help, std::string default_text,
                  FlagSet::Setter set) {
  COTERIE_CHECK(Find(name) == nullptr) << "flag declared twice: " << name;
  flags_.push_back({.name = std::move(name),
                    .meta = std::move(meta),
                    .help = std::move(help),
                    .default_text = std::move(default_text),
                    .section = section_,
                    .set = std::move(set)});
}

void FlagSet::String(std::string name, std::string* value, std::string meta, std::string help) {
  Add(std::move(name), std::move(meta), std::move(help), *value,
      [value](std::string_view name, const std::string& text) {
        *value = text;
        return absl::OkStatus();
      });
}

void FlagSet::Strings(std::string name, std::vector<std::string>* value, std::string meta, std::string help) {
  Add(std::move(name), std::move(meta), std::move(help), absl::StrJoin(*value, ","),
      [value, first = true](std::string_view name, const std::string& text) mutable {
        if (first) value->clear();
        first = false;
        for (absl::string_view part : absl::StrSplit(text, ',', absl::SkipWhitespace()))
          value->emplace_back(part);
        return absl::OkStatus();
      });
}

void FlagSet::Bool(std::string name, bool* value, std::string help) {
  Add(std::move(name), "", std::move(help), *value ? "yes" : "no",
      [value](std::string_view name, const std::string& text) -> Status {
        if (text == "true" || text == "1" || text == "yes") {
          *value = true;
        } else if (text == "false" || text == "0" || text == "no") {
          *value = false;
        } else {
          return Bad(name, text, "is neither true nor false");
        }
        return absl::OkStatus();
      });
}

void FlagSet::Int(std::string name, int* value, int64_t min, int64_t max, std::string meta,
                  std::string help) {
  auto set = IntSetter(value, min, max);
  Add(std::move(name), std::move(meta), std::move(help),
      DefaultText(int64_t{*value}, min, max, absl::StrCat(*value)), std::move(set));
}

void FlagSet::Int(std::string name, int64_t* value, int64_t min, int64_t max, std::string meta,
                  std::string help) {
  auto set = IntSetter(value, min, max);
  Add(std::move(name), std::move(meta), std::move(help), DefaultText(*value, min, max, absl::StrCat(*value)),
      std::move(set));
}

void FlagSet::Int(std::string name, uint64_t* value, uint64_t min, uint64_t max, std::string meta,
                  std::string help) {
  auto set = IntSetter(value, min, max);
  Add(std::move(name), std::move(meta), std::move(help), DefaultText(*value, min, max, absl::StrCat(*value)),
      std::move(set));
}

void FlagSet::Double(std::string name, double* value, double min, double max, std::string meta,
                     std::string help) {
  Add(std::move(name), std::move(meta), std::move(help), DefaultText(*value, min, max, absl::StrCat(*value)),
      [value, min, max](std::string_view name, const std::string& text) -> Status {
        double parsed = 0;
        if (!absl::SimpleAtod(text, &parsed) || std::isnan(parsed)) return Bad(name, text, "is not a number");
        if (parsed < min || parsed > max) {
          return Bad(name, text, absl::StrCat("must lie between ", min, " and ", max));
        }
        *value = parsed;
        return absl::OkStatus();
      });
}

void FlagSet::Duration(std::string name, absl::Duration* value, absl::Duration min, absl::Duration max,
                       std::string help) {
  Add(std::move(name), "TIME", std::move(help), DefaultText(*value, min, max, DurationText(*value)),
      [value, min, max](std::string_view name, const std::string& text) -> Status {
        absl::Duration parsed;
        if (!absl::ParseDuration(text, &parsed))
          return Bad(name, text, "is not a time such as 250ms, 5s or 1m30s");
        if (parsed < min || parsed > max) {
          return Bad(name, text,
                     absl::StrCat("must lie between ", absl::FormatDuration(min), " and ",
                                  absl::FormatDuration(max)));
        }
        *value = parsed;
        return absl::OkStatus();
      });
}

void FlagSet::Bytes(std::string name, uint64_t* value, uint64_t min, uint64_t max, std::string help) {
  Add(std::move(name), "BYTES", std::move(help), DefaultText(*value, min, max, BytesText(*value)),
      [value, min, max](std::string_view name, const std::string& text) -> Status {
        uint64_t parsed = 0;
        if (!ParseBytes(text, &parsed)) return Bad(name, text, "is not a size such as 4096, 64MiB or 2G");
        if (parsed < min || parsed > max) {
          return Bad(name, text, absl::StrCat("must lie between ", BytesText(min), " and ", BytesText(max)));
        }
        *value = parsed;
        return absl::OkStatus();
      });
}

void FlagSet::Choice(std::string name, std::string* value, std::vector<std::string> allowed,
                     std::string help) {
  std::string meta = absl::StrJoin(allowed, "|");
  Add(std::move(name), std::move(meta), std::move(help), *value,
      [value, allowed = std::move(allowed)](std::string_view name, const std::string& text) -> Status {
        if (std::find(allowed.begin(), allowed.end(), text) == allowed.end()) {
          return Bad(name, text, absl::StrCat("must be one of ", absl::StrJoin(allowed, ", ")));
        }
        *value = text;
        return absl::OkStatus();
      });
}

FlagSet::Flag* FlagSet::Find(std::string_view name) {
  return const_cast<Flag*>(std::as_const(*this).Find(name));
}

const FlagSet::Flag* FlagSet::Find(std::string_view name) const {
  for (const Flag& flag : flags_) {
    if (flag.name == name) return &flag;
  }
  return nullptr;
}

bool FlagSet::was_set(std::string_view name) const {
  const Flag* flag = Find(name);
  return flag != nullptr && flag->seen;
}

Status FlagSet::UnknownFlag(std::string_view written) const {
  std::vector<std::string_view> names;
  for (const Flag& flag : flags_) names.push_back(flag.name);
  const std::string_view nearest = Nearest(written, names);
  std::string message = absl::StrCat("unknown flag --", Shown(written));
  if (!nearest.empty()) absl::StrAppend(&message, "; did you mean --", ToAbsl(nearest), "?");
  return absl::InvalidArgumentError(absl::StrCat(message, " (", program_, " --help lists them all)"));
}

Status FlagSet::SetFlag(Flag* flag, const std::string& value) {
  RETURN_IF_ERROR(flag->set(flag->name, value));
  flag->seen = true;
  return absl::OkStatus();
}

Status FlagSet::Parse(int argc, const char* const* argv) {
  std::vector<std::string> args(argv + std::min(argc, 1), argv + argc);
  return Parse(args);
}

FlagSet::Written FlagSet::LookUp(const std::string& written) {
  if (written[1] != '-') {
    const auto has_letter = [&](const Flag& flag) {
      return written.size() == 2 && flag.short_letter == written[1];
    };
    const auto found = std::find_if(flags_.begin(), flags_.end(), has_letter);
    return {found == flags_.end() ? nullptr : &*found, written.substr(1)};
  }
  const std::string name = written.substr(2);
  if (Flag* flag = Find(name)) return {flag, name};
  Flag* flag = name.rfind("no-", 0) == 0 ? Find(std::string_view(name).substr(3)) : nullptr;
  if (flag == nullptr || !flag->meta.empty()) return {nullptr, name};  // only switches can be negated
  return {flag, name, /*negated=*/true};
}

Status FlagSet::Parse(std::span<const std::string> args) {
  for (const std::string& arg : args) {
    if (arg == "--") break;
    if (arg == "--help" || arg == "-h") {
      help_requested_ = true;
      return absl::OkStatus();
    }
  }
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg == "--") {
      positionals_.insert(positionals_.end(), args.begin() + i + 1, args.end());
      break;
    }
    if (arg.size() < 2 || arg[0] != '-') {
      positionals_.push_back(arg);
      continue;
    }
    const size_t equals = arg.find('=');
    const auto [flag, name, negated] = LookUp(arg.substr(0, equals));
    if (flag == nullptr) return UnknownFlag(name);
    if (equals != std::string::npos) {
      if (negated) return absl::InvalidArgumentError(absl::StrCat("--", Shown(name), " takes no value"));
      RETURN_IF_ERROR(SetFlag(flag, arg.substr(equals + 1)));
    } else if (flag->meta.empty()) {
      RETURN_IF_ERROR(SetFlag(flag, negated ? "false" : "true"));
    } else if (i + 1 < args.size()) {
      RETURN_IF_ERROR(SetFlag(flag, args[++i]));
    } else {
      return absl::InvalidArgumentError(absl::StrCat("--", flag->name, " needs a value: ", flag->meta));
    }
  }
  return CheckComplete();
}

Status FlagSet::CheckComplete() const {
  for (const Flag& flag : flags_) {
    if (flag.required && !flag.seen) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag.name, " ", flag.meta, " is missing: ", flag.help));
    }
  }
  if (positionals_.size() > max_positionals_) {
    return absl::InvalidArgumentError(absl::StrCat("unexpected argument ",
                                                   Quoted(positionals_[max_positionals_]), " (", program_,
                                                   " takes at most ", max_positionals_, " besides flags)"));
  }
  if (positionals_.size() < min_positionals_) {
    return absl::InvalidArgumentError(absl::StrCat(program_, " needs ", positional_usage_, "; got ",
                                                   positionals_.size(), " of at least ", min_positionals_));
  }
  return absl::OkStatus();
}

// What is taken when the flag is not given, in brackets; empty where the help itself says so.
std::string FlagSet::DefaultInWords(const Flag& flag) {
  if (flag.required) return " (required)";
  if (!flag.default_text.empty()) return absl::StrCat(" (default ", flag.default_text, ")");
  const bool told = absl::StrContains(flag.help, "empty:") || absl::StrContains(flag.help, "none");
  return told ? "" : " (default none)";
}

std::string FlagSet::Help(size_t columns) const {
  constexpr size_t kIndent = 30;
  std::string out = absl::StrCat("Usage: ", program_, flags_.empty() ? "" : " [flags]",
                                 positional_usage_.empty() ? "" : " ", positional_usage_, "\n\n",
                                 WrapText(summary_, columns), "\n");
  std::string section = "\n";  // no section has this name, so the first heading is always printed
  for (const Flag& flag : flags_) {
    if (flag.section != section) {
      section = flag.section;
      absl::StrAppend(&out, "\n", section.empty() ? "Flags" : section, ":\n");
    }
    std::string left = "  ";
    if (flag.short_letter != 0)
      absl::StrAppend(&left, std::string(1, '-'), std::string(1, flag.short_letter), ", ");
    absl::StrAppend(&left, "--", flag.name, flag.meta.empty() ? "" : " ", flag.meta);
    out += left;
    if (left.size() + 2 > kIndent) {
      out.append("\n").append(kIndent, ' ');
    } else {
      out.append(kIndent - left.size(), ' ');
    }
    out += WrapText(flag.help + DefaultInWords(flag), columns - kIndent, kIndent) + "\n";
  }
  return out;
}

}  // namespace coterie
