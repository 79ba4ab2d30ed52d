#include <algorithm>
#include <array>
#include <functional>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"
#include "common/quoted.h"
#include "model/text/unicode.h"
#include "model/text/word_cache.h"
#include "model/text/word_model.h"

// Byte-pair encoding (Sennrich et al., 2016): of all neighbours that can be merged the pair of lowest rank is
// merged first, the leftmost of equals, until none is left. Candidates wait in a heap and symbols form a
// linked list, so a word of n characters takes O(n log n).
namespace coterie::text {
namespace {

constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // U+2581, SentencePiece's space

struct Merge {
  uint32_t rank;
  int32_t id;  // of the merged token
};

struct Symbol {
  int32_t id;
  int32_t previous;  // index of the neighbour, -1 at the ends
  int32_t next;
  bool is_alive;
};

struct Candidate {
  uint64_t order;  // rank << 32 | position of the left symbol: the heap's order
  int32_t id;      // of the merged token
  bool operator>(const Candidate& other) const { return order > other.order; }
};

uint64_t PairKey(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

class Bpe final : public WordModel {
 public:
  Bpe(std::shared_ptr<const Vocabulary> vocabulary, const std::vector<bool>& is_control)
      : vocabulary_(std::move(vocabulary)), is_control_(is_control) {}

  Status Init(BpeOptions options) {
    options_ = std::move(options);
    merges_.reserve(options_.merges.size());
    Hasher hasher;
    std::string merged;
    for (size_t rank = 0; rank < options_.merges.size(); ++rank) {
      const auto& [left, right] = options_.merges[rank];
      hasher.UpdateField(left).UpdateField(right);
      merged.assign(left).append(right);
      const int32_t left_id = vocabulary_->IdOf(left);
      const int32_t right_id = vocabulary_->IdOf(right);
      const int32_t merged_id = vocabulary_->IdOf(merged);
      if (left_id < 0 || right_id < 0 || merged_id < 0) {
        return absl::InvalidArgumentError(absl::StrCat("merge ", rank, " (", Quoted(left), " ", Quoted(right),
                                                       "): ",
                                                       Quoted(left_id < 0    ? left
                                                              : right_id < 0 ? right
                                                                             : merged),
                                                       " is not in the vocabulary"));
      }
      if (is_control_[static_cast<size_t>(merged_id)]) continue;
      cuts_at_metaspace_ = cuts_at_metaspace_ && !HasMetaspaceInside(merged);
      merges_.insert_or_assign(PairKey(left_id, right_id), Merge{static_cast<uint32_t>(rank), merged_id});
    }
    merges_digest_ = hasher.Finish();
    options_.merges.clear();
    options_.merges.shrink_to_fit();
    cuts_at_metaspace_ = cuts_at_metaspace_ && CharacterId(kMetaspace) >= 0;
    for (char32_t rune = 0; rune < kDirectRunes; ++rune) {
      std::string character;
      AppendRune(rune, &character);
      character_ids_[rune] = CharacterId(character);
    }
    for (unsigned byte = 0; byte < 256; ++byte) {
      byte_ids_[byte] = options_.byte_fallback ? vocabulary_->IdOf(absl::StrFormat("<0x%02X>", byte)) : -1;
    }
    return absl::OkStatus();
  }

  Status Tokenize(std::string_view word, std::vector<int32_t>* ids) const override {
    if (options_.ignore_merges) {
      const int32_t id = CharacterId(word);
      if (id >= 0) {
        ids->push_back(id);
        return absl::OkStatus();
      }
    }
    if (!cuts_at_metaspace_) return TokenizeUnit(word, ids);
    for (size_t begin = 0; begin < word.size();) {
      size_t end = word.size();
      for (size_t at = begin; (at = word.find(kMetaspace, at + 1)) != std::string_view::npos;) {
        if (word.substr(0, at).ends_with(kMetaspace)) continue;
        end = at;
        break;
      }
      RETURN_IF_ERROR(TokenizeUnit(word.substr(begin, end - begin), ids));
      begin = end;
    }
    return absl::OkStatus();
  }

  void UpdateDigest(Hasher* hasher) const override {
    hasher->UpdateField("BPE").UpdateField(merges_digest_.ToBytes());
    hasher->UpdateField(absl::StrCat(options_.has_unk, ",", options_.unk_id, ",", options_.fuse_unk, ",",
                                     options_.byte_fallback, ",", options_.ignore_merges));
  }

 private:
  // Byte-level alphabets end below U+0144, Latin text too.
  static constexpr char32_t kDirectRunes = 0x200;

  static bool HasMetaspaceInside(std::string_view token) {
    for (size_t at = 0; (at = token.find(kMetaspace, at + 1)) != std::string_view::npos;) {
      if (!token.substr(0, at).ends_with(kMetaspace)) return true;
    }
    return false;
  }

  // A stretch of a word across whose ends nothing merges.
  Status TokenizeUnit(std::string_view word, std::vector<int32_t>* ids) const {
    const bool is_cached = word.size() <= WordCache::kMaxWordBytes;
    if (is_cached && cache_.Find(word, ids)) return absl::OkStatus();
    const size_t first = ids->size();
    std::vector<Symbol> symbols;
    symbols.reserve(word.size());
    RETURN_IF_ERROR(SplitIntoCharacters(word, &symbols));
    MergeAll(&symbols);
    for (const Symbol& symbol : symbols) {
      if (symbol.is_alive) ids->push_back(symbol.id);
    }
    if (is_cached) cache_.Insert(word, ids->data() + first, ids->data() + ids->size());
    return absl::OkStatus();
  }

  int32_t CharacterId(std::string_view text) const {
    const int32_t id = vocabulary_->IdOf(text);
    return id >= 0 && is_control_[static_cast<size_t>(id)] ? -1 : id;
  }

  Status SplitIntoCharacters(std::string_view word, std::vector<Symbol>* symbols) const {
    bool unk_waits = false;  // an unknown character has been seen and its token not yet added
    const auto add = [symbols](int32_t id) {
      const auto index = static_cast<int32_t>(symbols->size());
      if (index > 0) symbols->back().next = index;
      symbols->push_back({id, index - 1, -1, true});
    };
    for (size_t pos = 0; pos < word.size();) {
      const size_t begin = pos;
      const char32_t rune = NextRune(word, &pos);
      const std::string_view character = word.substr(begin, pos - begin);
      const int32_t id = rune < kDirectRunes ? character_ids_[rune] : CharacterId(character);
      if (id >= 0) {
        if (unk_waits) add(options_.unk_id);
        unk_waits = false;
        add(id);
        continue;
      }
      const auto has_token = [this](char byte) { return byte_ids_[static_cast<unsigned char>(byte)] >= 0; };
      if (options_.byte_fallback && std::all_of(character.begin(), character.end(), has_token)) {
        for (const char byte : character) add(byte_ids_[static_cast<unsigned char>(byte)]);
        continue;
      }
      if (!options_.has_unk) continue;
      if (options_.unk_id < 0) {
        return absl::InvalidArgumentError(
            absl::StrCat(Quoted(character), " is not in the vocabulary and the unknown token is not either"));
      }
      if (unk_waits && !options_.fuse_unk) add(options_.unk_id);
      unk_waits = true;
    }
    if (unk_waits) add(options_.unk_id);
    return absl::OkStatus();
  }

  void MergeAll(std::vector<Symbol>* symbols) const {
    std::vector<Symbol>& s = *symbols;
    std::vector<Candidate> heap;
    const auto find = [&](int32_t left) -> const Merge* {
      const int32_t right = s[static_cast<size_t>(left)].next;
      if (right < 0) return nullptr;
      const auto it =
          merges_.find(PairKey(s[static_cast<size_t>(left)].id, s[static_cast<size_t>(right)].id));
      return it == merges_.end() ? nullptr : &it->second;
    };
    const auto candidate = [](const Merge& merge, int32_t left) {
      return Candidate{(static_cast<uint64_t>(merge.rank) << 32) | static_cast<uint32_t>(left), merge.id};
    };
    for (int32_t left = 0; left + 1 < static_cast<int32_t>(s.size()); ++left) {
      if (const Merge* merge = find(left)) heap.push_back(candidate(*merge, left));
    }
    std::make_heap(heap.begin(), heap.end(), std::greater<>());
    while (!heap.empty()) {
      std::pop_heap(heap.begin(), heap.end(), std::greater<>());
      const Candidate top = heap.back();
      heap.pop_back();
      const auto position = static_cast<int32_t>(top.order & 0xFFFFFFFF);
      Symbol& left = s[static_cast<size_t>(position)];
      if (!left.is_alive) continue;
      // Stale unless the pair that stands here now still merges into the same token.
      const Merge* merge = find(position);
      if (merge == nullptr || merge->id != top.id) continue;
      Symbol& right = s[static_cast<size_t>(left.next)];
      left.id = top.id;
      left.next = right.next;
      right.is_alive = false;
      if (right.next >= 0) s[static_cast<size_t>(right.next)].previous = position;
      const auto consider = [&](int32_t at) {
        if (const Merge* next_merge = find(at)) {
          heap.push_back(candidate(*next_merge, at));
          std::push_heap(heap.begin(), heap.end(), std::greater<>());
        }
      };
      if (left.previous >= 0) consider(left.previous);
      consider(position);
    }
  }

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<bool> is_control_;
  BpeOptions options_;  // merges moved into merges_
  absl::flat_hash_map<uint64_t, Merge> merges_;
  Digest merges_digest_;
  // Whether text may be cut before each U+2581 that follows another character without changing its ids: no
  // merge makes a token that reaches across. Vocabularies made with SentencePiece have it, whose texts come
  // here as one word.
  bool cuts_at_metaspace_ = true;
  std::array<int32_t, kDirectRunes> character_ids_{};
  std::array<int32_t, 256> byte_ids_{};
  mutable WordCache cache_;
};

}  // namespace

StatusOr<std::unique_ptr<const WordModel>> MakeBpe(std::shared_ptr<const Vocabulary> vocabulary,
                                                   const std::vector<bool>& is_control, BpeOptions options) {
  auto bpe = std::make_unique<Bpe>(std::move(vocabulary), is_control);
  RETURN_IF_ERROR(bpe->Init(std::move(options)));
  return bpe;
}

}  // namespace coterie::text
