#include "model/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "common/quoted.h"

namespace coterie::text {
namespace {

// Backtracking steps for one match. The expressions of real tokenizers need a few dozen; a pattern that
// explodes ends here instead of holding a thread.
constexpr uint32_t kMatchLimit = 10'000'000;
constexpr uint32_t kHeapLimitKib = 64 * 1024;
constexpr size_t kMaxPatternBytes = 16 * 1024;
constexpr size_t kJitStackBytes = 1 << 20;

// The scratch memory of a thread that runs a pattern. One per thread, so that an immutable Regex may be
// shared.
struct MatchState {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);  // whole match only
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 * 1024, kJitStackBytes, nullptr);
  MatchState() {
    if (context == nullptr) return;
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_set_heap_limit(context, kHeapLimitKib);
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchState() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
};

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

StatusOr<pcre2_code*> Compile(std::string_view pattern, uint32_t options) {
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  if (context == nullptr) return absl::ResourceExhaustedError("no memory for a regular expression");
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context, 50);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   options | PCRE2_UTF | PCRE2_NO_UTF_CHECK, &error, &offset, context);
  pcre2_compile_context_free(context);
  if (code == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("regular expression ", Quoted(pattern, kShownPatternBytes),
                                                   ": ", ErrorText(error), " at offset ", offset));
  }
  // Without JIT the interpreter gives the same matches, only slower.
  (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return code;
}

}  // namespace

StatusOr<std::shared_ptr<const Regex>> Regex::Create(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("regular expression has ", pattern.size(), " bytes, the limit is ", kMaxPatternBytes));
  }
  ASSIGN_OR_RETURN(const std::string translated, TranslateOniguruma(pattern));
  ASSIGN_OR_RETURN(pcre2_code * code, Compile(translated, PCRE2_UCP));
  return std::shared_ptr<const Regex>(new Regex(std::string(pattern), code));
}

StatusOr<std::shared_ptr<const Regex>> Regex::CreateLiteral(std::string_view text) {
  if (text.empty() || text.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a literal pattern has ", text.size(), " bytes, want 1 to ", kMaxPatternBytes));
  }
  ASSIGN_OR_RETURN(pcre2_code * code, Compile(text, PCRE2_LITERAL));
  return std::shared_ptr<const Regex>(new Regex(std::string(text), code));
}

Regex::~Regex() { pcre2_code_free(code_); }

Status Regex::Find(std::string_view text, size_t begin, size_t end, std::vector<Match>* matches) const {
  static thread_local MatchState state;
  if (state.data == nullptr || state.context == nullptr)
    return absl::ResourceExhaustedError("no memory to match");
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data() + begin);
  const size_t n_bytes = end - begin;
  const auto push = [&](size_t from, size_t to, bool is_match) {
    matches->push_back({static_cast<uint32_t>(begin + from), static_cast<uint32_t>(begin + to), is_match});
  };
  size_t covered = 0;    // everything before is in `matches`
  size_t search = 0;     // where the next search starts
  bool matched = false;  // whether a match ended at `covered`
  while (search <= n_bytes) {
    const int found =
        pcre2_match(code_, subject, n_bytes, search, PCRE2_NO_UTF_CHECK, state.data, state.context);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) {
      return absl::ResourceExhaustedError(absl::StrCat("regular expression ",
                                                       Quoted(pattern_, kShownPatternBytes), " on ", n_bytes,
                                                       " bytes: ", ErrorText(found)));
    }
    const PCRE2_SIZE* where = pcre2_get_ovector_pointer(state.data);
    const size_t from = where[0];
    const size_t to = where[1];
    if (from == to && matched && from == covered) {
      // An empty match right behind the last one does not count: go on one character further.
      ++search;
      while (search < n_bytes && (subject[search] & 0xC0) == 0x80) ++search;
      continue;
    }
    if (covered < from) push(covered, from, false);
    push(from, to, true);
    covered = search = to;
    matched = true;
  }
  if (covered < n_bytes) push(covered, n_bytes, false);
  return absl::OkStatus();
}

}  // namespace coterie::text
