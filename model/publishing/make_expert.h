#ifndef COTERIE_MODEL_PUBLISHING_MAKE_EXPERT_H_
#define COTERIE_MODEL_PUBLISHING_MAKE_EXPERT_H_

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "model/publishing/make_prototypes.h"
#include "model/publishing/read_folder.h"
#include "model/publishing/separation.h"
#include "model/publishing/write_card.h"

namespace coterie {

// What publishing asks of the gateway that is to serve an expert; over the wire, or within its process.
class RoutingView {
 public:
  virtual ~RoutingView() = default;
  // Vectors of `texts` (never more than kTextsPerEmbedding), by the encoder that routes.
  virtual StatusOr<EmbeddedTexts> Embed(std::span<const std::string> texts) = 0;
  // The expert that comes nearest to `text` as a question, `except` left out; nothing: there is none.
  virtual StatusOr<std::optional<Rival>> NearestRival(const std::string& text, std::string_view except) = 0;
};

// Texts of one call of RoutingView::Embed: a small share of what a gateway takes, so that others' texts get
// their turn in between.
inline constexpr size_t kTextsPerEmbedding = 32;
// Examples that are held against the experts that are there; of more, so many are taken evenly.
inline constexpr size_t kMostCompared = 200;

// An expert ready to be published.
struct MadeExpert {
  struct File {
    std::string name;
    std::string content;
  };
  std::vector<File> files;  // the four of an expert folder; without adapter, of one made of others
  std::string name;         // the card's
  std::optional<Separation> separation;  // absent without examples
  std::vector<std::string> notes;        // for people: what was converted, and what was said but not used
};

// Completes a folder: a card of `fields` and prototypes of `examples` where it has none. A card that is there
// wins over `fields`, prototypes that are there over examples, and a note says so; examples are measured all
// the same. `view` is asked only where there are examples. Refused, naming the field or file and what to do:
// a folder without its adapter files (ReadFolder has said why), no description and no card, neither examples
// nor prototypes, a card or prototypes that are broken, a name in `fields` that is not the card's.
StatusOr<MadeExpert> MakeExpert(const FolderContent& folder, const CardFields& fields,
                                const std::vector<std::string>& examples, RoutingView* view);

}  // namespace coterie

#endif  // COTERIE_MODEL_PUBLISHING_MAKE_EXPERT_H_
