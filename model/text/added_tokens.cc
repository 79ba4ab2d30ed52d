#include "model/text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "model/text/unicode.h"

namespace coterie::text {

TrustMap TrustMap::All(bool is_trusted, size_t n_bytes) {
  TrustMap map;
  map.Append(n_bytes, is_trusted);
  return map;
}

void TrustMap::Append(size_t n_bytes, bool is_trusted) {
  if (n_bytes == 0) return;
  const size_t end = (runs_.empty() ? 0 : runs_.back().end) + n_bytes;
  if (!runs_.empty() && runs_.back().is_trusted == is_trusted) {
    runs_.back().end = end;
  } else {
    runs_.push_back({end, is_trusted});
  }
}

TrustMap::Run TrustMap::At(size_t pos) const {
  const auto run =
      std::upper_bound(runs_.begin(), runs_.end(), pos, [](size_t p, const Run& r) { return p < r.end; });
  return run == runs_.end() ? Run{pos, false} : *run;
}

bool TrustMap::IsTrusted(size_t begin, size_t end) const {
  const Run run = At(begin);
  return run.is_trusted && end <= run.end;
}

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)), token_at_node_{-1} {
  for (size_t index = 0; index < tokens_.size(); ++index) {
    const std::string& content = tokens_[index].content;
    if (content.empty()) continue;
    begins_[static_cast<unsigned char>(content[0])] = true;
    uint32_t node = 0;
    for (const char c : content) {
      const uint64_t key = (static_cast<uint64_t>(node) << 8) | static_cast<unsigned char>(c);
      const auto [edge, is_new] = edges_.try_emplace(key, static_cast<uint32_t>(token_at_node_.size()));
      if (is_new) token_at_node_.push_back(-1);
      node = edge->second;
    }
    token_at_node_[node] = static_cast<int32_t>(index);
  }
}

AddedTokenFinder::Longest AddedTokenFinder::At(std::string_view text, size_t pos,
                                               size_t special_limit) const {
  Longest longest;
  uint32_t node = 0;
  for (size_t end = pos; end < text.size();) {
    const auto edge = edges_.find((static_cast<uint64_t>(node) << 8) | static_cast<unsigned char>(text[end]));
    if (edge == edges_.end()) break;
    node = edge->second;
    ++end;
    if (token_at_node_[node] < 0) continue;
    const AddedToken& token = tokens_[static_cast<size_t>(token_at_node_[node])];
    if (!token.special) {
      longest.plain = &token;
    } else if (end <= special_limit) {
      longest.special = &token;
    }
  }
  return longest;
}

void AddedTokenFinder::Find(std::string_view text, const TrustMap& trust, std::vector<Piece>* pieces) const {
  size_t covered = 0;
  size_t blank_begin = 1;  // the white space last scanned for an rstrip
  size_t blank_end = 0;
  for (size_t pos = 0; pos < text.size() && !tokens_.empty();) {
    if (!begins_[static_cast<unsigned char>(text[pos])]) {
      ++pos;
      continue;
    }
    const TrustMap::Run run = trust.At(pos);
    const Longest longest = At(text, pos, run.end);
    const AddedToken* token = longest.special;
    if (token == nullptr ||
        (longest.plain != nullptr && longest.plain->content.size() > token->content.size())) {
      token = longest.plain;
    }
    if (token == nullptr) {
      ++pos;
      continue;
    }
    size_t begin = pos;
    size_t end = pos + token->content.size();
    pos = end;
    if (token->special && !run.is_trusted) continue;
    if (token->single_word) {
      size_t before = begin;
      size_t after = end;
      if (before > 0 && IsWord(PreviousRune(text, &before))) continue;
      if (after < text.size() && IsWord(NextRune(text, &after))) continue;
    }
    if (token->lstrip) {
      while (begin > covered) {
        size_t previous = begin;
        if (!IsWhitespace(PreviousRune(text, &previous))) break;
        begin = previous;
      }
      begin = std::max(begin, covered);
    }
    if (token->rstrip) {
      if (end < blank_begin || end > blank_end) {
        blank_begin = blank_end = end;
        while (blank_end < text.size()) {
          size_t next = blank_end;
          if (!IsWhitespace(NextRune(text, &next))) break;
          blank_end = next;
        }
      }
      end = blank_end;
    }
    // A token may begin in white space that the one before has taken along: as in the reference it then
    // stands again, or vanishes when nothing of it is left.
    if (covered < begin) pieces->push_back({covered, begin, nullptr});
    if (begin < end) pieces->push_back({begin, end, token});
    covered = end;
  }
  if (covered < text.size()) pieces->push_back({covered, text.size(), nullptr});
}

}  // namespace coterie::text
