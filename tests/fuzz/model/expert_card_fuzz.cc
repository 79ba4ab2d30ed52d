// Any bytes as expert.yaml: what is accepted keeps the bounds that a card promises.
#include <cstddef>
#include <cstdint>

#include "common/check.h"
#include "common/ids.h"
#include "model/store/catalogue_entry.h"
#include "model/store/expert_card.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const coterie::CardLimits limits;
  const auto card =
      coterie::ParseExpertCard({reinterpret_cast<const char*>(data), size}, "expert.yaml", limits);
  if (!card.ok()) return 0;
  COTERIE_CHECK(coterie::ValidateExpertName(card->name).ok());
  COTERIE_CHECK(!card->version.empty() && !card->description.empty());
  COTERIE_CHECK_LE(card->description.size(), limits.max_description_bytes);
  COTERIE_CHECK_LE(card->tags.size(), limits.max_tags);
  COTERIE_CHECK_LE(card->facts.size(), limits.max_facts);
  const bool composite = card->mode != coterie::CollaborationMode::kNone;
  COTERIE_CHECK(coterie::SaysComposite({reinterpret_cast<const char*>(data), size}, limits) == composite);
  COTERIE_CHECK(composite ? card->members.size() >= 2 && card->members.size() <= coterie::kMaxExpertMembers
                          : card->members.empty());
  float sum = 0;  // of whole 32nds: exact
  for (const coterie::CardMember& member : card->members) {
    COTERIE_CHECK(member.weight > 0 && member.expert.kind == coterie::ExpertSelector::Kind::kNamed);
    sum += member.weight;
  }
  COTERIE_CHECK(!composite || sum == 1);
  if (card->min_score.has_value()) COTERIE_CHECK(*card->min_score >= -1 && *card->min_score <= 1);
  return 0;
}
