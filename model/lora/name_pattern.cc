#include "model/lora/name_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "absl/strings/numbers.h"
#include "common/check.h"
#include "common/quoted.h"

namespace coterie {
namespace {

PCRE2_SPTR Units(std::string_view s) { return reinterpret_cast<PCRE2_SPTR>(s.data()); }

std::string Pcre2Message(int code) {
  PCRE2_UCHAR text[256];
  if (pcre2_get_error_message(code, text, sizeof text) < 0) return absl::StrCat("error ", code);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

StatusOr<NamePattern> NamePattern::Compile(std::string_view pattern, std::string_view what) {
  if (pattern.size() > kMaxBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(what), ": the pattern has ", pattern.size(), " bytes, the limit is ", kMaxBytes));
  }
  int error;
  PCRE2_SIZE offset;
  pcre2_code* code = pcre2_compile(Units(pattern), pattern.size(), PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C,
                                   &error, &offset, nullptr);
  if (code == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(what), ": pattern ", Quoted(pattern),
                                                   " is invalid at byte ", offset, ": ",
                                                   Pcre2Message(error)));
  }
  NamePattern out;
  out.text_ = std::string(pattern);
  out.what_ = std::string(what);
  out.code_ = std::shared_ptr<void>(code, [](void* c) { pcre2_code_free(static_cast<pcre2_code*>(c)); });
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  COTERIE_CHECK(context != nullptr);
  pcre2_set_match_limit(context, kMaxMatchSteps);
  pcre2_set_depth_limit(context, 1000);
  pcre2_set_heap_limit(context, 1024);  // KiB
  out.match_context_ = std::shared_ptr<void>(
      context, [](void* c) { pcre2_match_context_free(static_cast<pcre2_match_context*>(c)); });
  return out;
}

Status NamePattern::Match(std::string_view name, uint32_t options, bool* matched,
                          std::string_view* index) const {
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create_from_pattern(code, nullptr), &pcre2_match_data_free);
  COTERIE_CHECK(data != nullptr);
  const int n = pcre2_match(code, Units(name), name.size(), 0, options, data.get(),
                            static_cast<pcre2_match_context*>(match_context_.get()));
  if (n < 0 && n != PCRE2_ERROR_NOMATCH) {
    return absl::InvalidArgumentError(absl::StrCat(what_, ": pattern ", Quoted(text_), " against ",
                                                   Quoted(name), ": ", Pcre2Message(n), " (the limit is ",
                                                   kMaxMatchSteps, " steps)"));
  }
  *matched = n > 0;
  if (index == nullptr || !*matched) return absl::OkStatus();
  const int group = pcre2_substring_number_from_name(code, reinterpret_cast<PCRE2_SPTR>("idx"));
  COTERIE_CHECK(group > 0) << "a pattern for an index has the group idx";
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data.get());
  if (group < n && bounds[2 * group] != PCRE2_UNSET) {
    *index = name.substr(bounds[2 * group], bounds[2 * group + 1] - bounds[2 * group]);
  }
  return absl::OkStatus();
}

StatusOr<bool> NamePattern::FullMatch(std::string_view name) const {
  bool matched;
  RETURN_IF_ERROR(Match(name, PCRE2_ANCHORED | PCRE2_ENDANCHORED, &matched, nullptr));
  return matched;
}

StatusOr<bool> NamePattern::MatchStart(std::string_view name) const {
  bool matched;
  RETURN_IF_ERROR(Match(name, PCRE2_ANCHORED, &matched, nullptr));
  return matched;
}

StatusOr<int> NamePattern::MatchIndex(std::string_view name) const {
  bool matched;
  std::string_view digits;
  RETURN_IF_ERROR(Match(name, PCRE2_ANCHORED, &matched, &digits));
  int index;
  if (!matched || !absl::SimpleAtoi(ToAbsl(digits), &index)) return -1;
  return index;
}

}  // namespace coterie
