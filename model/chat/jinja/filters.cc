#include "model/chat/jinja/filters.h"

namespace coterie::jinja {

const Builtin* FindFilter(std::string_view name) {
  for (const std::span<const Builtin> group : {StringFilters(), SequenceFilters(), SelectionFilters(),
                                               ValueFilters(), HtmlFilters(), LayoutFilters()}) {
    for (const Builtin& filter : group) {
      if (filter.name == name) return &filter;
    }
  }
  return nullptr;
}

}  // namespace coterie::jinja
