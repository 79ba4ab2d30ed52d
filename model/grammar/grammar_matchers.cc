#include "model/grammar/grammar_matchers.h"

#include <algorithm>
#include <exception>
#include <list>
#include <utility>

#include "common/check.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "common/quoted.h"
#include "model/grammar/constraint_grammar.h"
#include "model/text/token_decoder.h"
#include "xgrammar/xgrammar.h"

namespace coterie {
namespace {

// Errors of the library come as exceptions; none leaves this file.
template <typename Make>
auto Caught(const char* what, const Make& make) -> StatusOr<decltype(make())> {
  try {
    return make();
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": ", Shown(error.what(), 200)));
  }
}

class GrammarMatcher : public TokenMatcher {
 public:
  GrammarMatcher(const xgrammar::CompiledGrammar& grammar, bool has_end_tokens)
      : matcher_(grammar), has_end_tokens_(has_end_tokens) {}

  bool Accept(int32_t token) override {
    try {
      return matcher_.AcceptToken(token);
    } catch (const std::exception&) {
      return false;
    }
  }

  NextTokens Fill(std::span<uint32_t> mask) override {
    std::fill(mask.begin(), mask.end(), 0);
    try {
      if (matcher_.IsTerminated()) return NextTokens::kEnd;
      int64_t shape = static_cast<int64_t>(mask.size());
      DLTensor tensor = {};
      tensor.data = mask.data();
      tensor.device = {kDLCPU, 0};
      tensor.ndim = 1;
      tensor.dtype = xgrammar::GetBitmaskDLType();
      tensor.shape = &shape;
      matcher_.FillNextTokenBitmask(&tensor);
      if (std::any_of(mask.begin(), mask.end(), [](uint32_t word) { return word != 0; }))
        return NextTokens::kSome;
      return !has_end_tokens_ && matcher_.IsCompleted() ? NextTokens::kEnd : NextTokens::kNone;
    } catch (const std::exception&) {
      return NextTokens::kNone;
    }
  }

 private:
  xgrammar::GrammarMatcher matcher_;
  const bool has_end_tokens_;
};

}  // namespace

std::vector<std::string> TokenBytes(const Tokenizer& tokenizer, int vocab_size) {
  // As they stand behind other text: a decoder may drop the space of the first token.
  text::TokenDecoderRun run(&tokenizer.decoder(), /*eager=*/true);
  std::string begun;
  for (const std::string_view first : {"a", "b"}) run.Push(first, &begun);
  std::vector<std::string> bytes(static_cast<size_t>(vocab_size));
  const auto n = std::min(bytes.size(), tokenizer.vocab_size());
  for (size_t id = 0; id < n; ++id) {
    const auto token = static_cast<int32_t>(id);
    if (tokenizer.IsSpecial(token)) continue;
    const std::string_view piece = tokenizer.DecoderInput(token, /*skip_special=*/true);
    if (!piece.empty()) bytes[id] = run.BytesOf(piece);
  }
  return bytes;
}

struct GrammarMatchers::Parts {
  struct Kept {
    std::string grammar;
    xgrammar::CompiledGrammar compiled;
  };

  Parts(const xgrammar::TokenizerInfo& info, const GrammarMatchersOptions& wanted)
      : compiler(info, /*max_threads=*/1, /*cache_enabled=*/false, /*max_memory_bytes=*/-1,
                 /*enable_dynamic_compilation=*/true),
        has_end_tokens(!info.GetStopTokenIds().empty()),
        options(wanted) {}

  xgrammar::GrammarCompiler compiler;
  const bool has_end_tokens;
  const GrammarMatchersOptions options;
  Mutex mutex;
  std::list<Kept> kept ABSL_GUARDED_BY(mutex);  // the last used first
};

GrammarMatchers::GrammarMatchers(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
GrammarMatchers::~GrammarMatchers() = default;

StatusOr<std::unique_ptr<GrammarMatchers>> GrammarMatchers::Create(const std::vector<std::string>& tokens,
                                                                   const std::vector<int32_t>& end_tokens,
                                                                   const GrammarMatchersOptions& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<Parts> parts, Caught("the vocabulary", [&] {
                     const xgrammar::TokenizerInfo info(tokens, xgrammar::VocabType::RAW,
                                                        static_cast<int>(tokens.size()), end_tokens);
                     return std::make_unique<Parts>(info, options);
                   }));
  return std::unique_ptr<GrammarMatchers>(new GrammarMatchers(std::move(parts)));
}

StatusOr<std::unique_ptr<TokenMatcher>> GrammarMatchers::Make(const Constraint& constraint) {
  const StatusOr<std::string> grammar = grammar::ConstraintGrammar(constraint);
  const auto refuse = [this](Status status) {
    stats_.refused.fetch_add(1, std::memory_order_relaxed);
    return status;
  };
  if (!grammar.ok()) return refuse(grammar.status());
  const auto matcher_of = [this](const xgrammar::CompiledGrammar& compiled) {
    return Caught("the constraint", [&]() -> std::unique_ptr<TokenMatcher> {
      return std::make_unique<GrammarMatcher>(compiled, parts_->has_end_tokens);
    });
  };
  {
    MutexLock lock(&parts_->mutex);
    std::list<Parts::Kept>& kept = parts_->kept;
    const auto found = std::find_if(kept.begin(), kept.end(),
                                    [&](const Parts::Kept& one) { return one.grammar == *grammar; });
    if (found != kept.end()) {
      stats_.hits.fetch_add(1, std::memory_order_relaxed);
      kept.splice(kept.begin(), kept, found);
      return matcher_of(kept.front().compiled);
    }
  }
  const MonotonicTime begun = MonotonicNow();
  StatusOr<xgrammar::CompiledGrammar> compiled =
      Caught("the constraint", [&] { return parts_->compiler.CompileGrammar(*grammar); });
  stats_.compiled.fetch_add(1, std::memory_order_relaxed);
  stats_.compile_nanos.fetch_add(static_cast<uint64_t>(absl::ToInt64Nanoseconds(MonotonicNow() - begun)),
                                 std::memory_order_relaxed);
  if (!compiled.ok()) return refuse(compiled.status());
  const size_t bytes = compiled->MemorySizeBytes();
  if (bytes > parts_->options.max_grammar_bytes) {
    return refuse(absl::InvalidArgumentError(
        absl::StrCat("the constraint takes ", bytes >> 20, " MiB once compiled; at most ",
                     parts_->options.max_grammar_bytes >> 20, " are served: make it simpler")));
  }
  MutexLock lock(&parts_->mutex);
  std::list<Parts::Kept>& kept = parts_->kept;
  kept.push_front({*grammar, *compiled});
  size_t kept_bytes = 0;
  for (auto one = kept.begin(); one != kept.end();) {
    kept_bytes += one->compiled.MemorySizeBytes();  // it grows while masks are made
    const bool fits = one == kept.begin() || kept_bytes <= parts_->options.max_kept_bytes;
    one = fits ? std::next(one) : kept.erase(one);
  }
  while (kept.size() > parts_->options.max_kept) kept.pop_back();
  return matcher_of(kept.front().compiled);
}

}  // namespace coterie
