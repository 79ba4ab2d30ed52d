#ifndef COTERIE_MODEL_PUBLISHING_WRITE_CARD_H_
#define COTERIE_MODEL_PUBLISHING_WRITE_CARD_H_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "common/status.h"

namespace coterie {

// What a person says of an expert, as far as they say it; the fields are those of ExpertCard.
struct CardFields {
  std::string name;         // empty: made of the folder's
  std::string version;      // empty: "1"
  std::string description;  // must be said where the folder has no card
  std::vector<std::string> tags;
  std::string licence;
  std::optional<double> min_score;
  std::string base;      // empty: the one that adapter_config.json names
  std::string embedder;  // for people
  // How the prototypes were made, for people; 0: it is not said.
  size_t n_texts = 0;
};

// expert.yaml with these fields; what ParseExpertCard would refuse is refused, naming the field, its value
// and what is expected.
StatusOr<std::string> WriteCard(const CardFields& fields);

}  // namespace coterie

#endif  // COTERIE_MODEL_PUBLISHING_WRITE_CARD_H_
