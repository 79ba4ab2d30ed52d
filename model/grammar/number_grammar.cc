#include "model/grammar/number_grammar.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status.h"

namespace coterie::grammar {
namespace {

constexpr std::string_view kFraction = "\".\" [0-9]{1,6}";
constexpr std::string_view kPositiveFraction = "\".\" (\"0\"){0,4} [1-9] [0-9]?";  // never .0
constexpr std::string_view kAnyNumber =
    "\"-\"? (\"0\" | [1-9] [0-9]{0,14}) (\".\" [0-9]{1,16})? ([eE] [+\\-]? [0-9]{1,2})?";
// Integers without bounds are rarely written with an exponent or "-0".
constexpr std::string_view kAnyInteger = "(\"0\" | \"-\"? [1-9] [0-9]{0,17})";

std::string Digit(char first, char last) {
  return first == last ? absl::StrCat("\"", std::string(1, first), "\"")
                       : absl::StrCat("[", std::string(1, first), "-", std::string(1, last), "]");
}

std::string AnyDigits(size_t n) { return n == 0 ? "" : absl::StrCat(" [0-9]{", n, ",", n, "}"); }

std::string OneOf(const std::vector<std::string>& choices) {
  return choices.size() == 1 ? choices[0] : absl::StrCat("(", absl::StrJoin(choices, " | "), ")");
}

// Numbers of as many digits as `least` and `most` have, leading zeros included; empty where there are no
// digits.
std::string Between(std::string_view least, std::string_view most) {
  if (least.empty()) return "";
  const std::string_view rest_least = least.substr(1), rest_most = most.substr(1);
  const size_t n_rest = rest_least.size();
  const std::string nines(n_rest, '9'), zeros(n_rest, '0');
  const auto join = [](std::string digit, const std::string& rest) {
    return rest.empty() ? digit : absl::StrCat(digit, " ", rest);
  };
  if (rest_least == zeros && rest_most == nines) return Digit(least[0], most[0]) + AnyDigits(n_rest);
  if (least[0] == most[0]) return join(Digit(least[0], least[0]), Between(rest_least, rest_most));
  std::vector<std::string> choices = {join(Digit(least[0], least[0]), Between(rest_least, nines))};
  const char low = static_cast<char>(least[0] + 1), high = static_cast<char>(most[0] - 1);
  if (low <= high) choices.push_back(Digit(low, high) + AnyDigits(n_rest));
  choices.push_back(join(Digit(most[0], most[0]), Between(zeros, rest_most)));
  return OneOf(choices);
}

// Integers from `least` (at least 0) to `most`, without sign.
std::optional<std::string> Naturals(int64_t least, int64_t most) {
  most = std::min(most, kMaxInteger);
  if (least > most) return std::nullopt;
  const std::string first = absl::StrCat(least), last = absl::StrCat(most);
  std::vector<std::string> choices;
  for (size_t n = first.size(); n <= last.size(); ++n) {
    const std::string begin = n == first.size() ? first : "1" + std::string(n - 1, '0');
    const std::string end = n == last.size() ? last : std::string(n, '9');
    choices.push_back(Between(begin, end));
  }
  return OneOf(choices);
}

// Numbers without sign from `least` (at least 0) to `most`.
std::optional<std::string> Magnitudes(int64_t least, bool above, int64_t most, bool below) {
  std::vector<std::string> choices;
  if (const auto whole = Naturals(least + (above ? 1 : 0), most - (below ? 1 : 0))) choices.push_back(*whole);
  if (const auto whole = Naturals(least + (above ? 1 : 0), most - 1)) {
    choices.push_back(absl::StrCat(*whole, " ", ToAbsl(kFraction)));
  }
  if (above && least < most) {
    choices.push_back(absl::StrCat("\"", least, "\" ", ToAbsl(kPositiveFraction)));
  }
  if (choices.empty()) return std::nullopt;
  return OneOf(choices);
}

std::optional<std::string> Either(const std::optional<std::string>& natural,
                                  const std::optional<std::string>& negative) {
  if (natural && negative) return absl::StrCat("(", *natural, " | \"-\" ", *negative, ")");
  if (natural) return natural;
  if (negative) return absl::StrCat("(\"-\" ", *negative, ")");
  return std::nullopt;
}

}  // namespace

std::optional<std::string> IntegerGrammar(const NumberBounds& bounds) {
  if (bounds.empty()) return std::string(kAnyInteger);
  int64_t least = std::max(bounds.least.value_or(-kMaxInteger), -kMaxInteger);
  int64_t most = std::min(bounds.most.value_or(kMaxInteger), kMaxInteger);
  if (bounds.above && bounds.least) least += *bounds.least == least ? 1 : 0;
  if (bounds.below && bounds.most) most -= *bounds.most == most ? 1 : 0;
  if (least > most) return std::nullopt;
  std::optional<std::string> natural, negative;
  if (most >= 0) natural = Naturals(std::max<int64_t>(least, 0), most);
  if (least < 0) negative = Naturals(std::max<int64_t>(1, -most), -least);
  return Either(natural, negative);
}

std::optional<std::string> NumberGrammar(const NumberBounds& bounds) {
  if (bounds.empty()) return std::string(kAnyNumber);
  // Behind a bound that is not there numbers may grow as far as their fraction stays exact.
  constexpr int64_t kFar = 10 * kMaxNumberBound - 1;
  const int64_t least = bounds.least.value_or(-kFar), most = bounds.most.value_or(kFar);
  std::optional<std::string> natural, negative;
  if (most > 0 || (most == 0 && !bounds.below)) {
    natural = Magnitudes(std::max<int64_t>(least, 0), bounds.above && least >= 0, most, bounds.below);
  }
  if (least < 0) {
    negative = Magnitudes(std::max<int64_t>(-most, 0), (bounds.below && most <= 0) || most > 0, -least,
                          bounds.above);
  }
  return Either(natural, negative);
}

}  // namespace coterie::grammar
