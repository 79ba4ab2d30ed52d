#include "gateway/http/api/map_page.h"

#include <cmath>
#include <span>

#include "gateway/http/json_writer.h"

namespace coterie::gateway::http {
namespace {

// Digits that can be seen; more would double the page.
void WriteRounded(float value, JsonWriter* json) { json->Number(std::round(value * 1e4) / 1e4); }

void WriteVector(std::span<const float> values, JsonWriter* json) {
  json->BeginArray();
  for (const float value : values) json->Number(std::round(value * 1e6) / 1e6);
  json->EndArray();
}

}  // namespace

std::shared_ptr<const ExpertMap> MapPage::MapOf(const RouterState& state) {
  MutexLock lock(&mutex_);
  const std::shared_ptr<const ExpertIndex>& index = state.parts().index;
  if (map_ == nullptr || drawn_from_.lock() != index) {
    map_ = std::make_shared<const ExpertMap>(DrawExpertMap(*index, {}));
    drawn_from_ = index;
  }
  return map_;
}

std::string MapPage::Page(const NamePatterns* experts) {
  std::string page;
  JsonWriter json(&page);
  json.BeginObject().Key("object").String("map");
  if (core_->embedder == nullptr) {  // nothing is routed by text, so nothing lies anywhere
    json.Key("experts").BeginArray().EndArray().Key("complete").Bool(true).EndObject();
    return page;
  }
  const auto state = core_->routers->Current();
  const std::shared_ptr<const ExpertMap> map = MapOf(*state);
  json.Key("catalogue_generation").Uint(state->index().generation()).Key("complete").Bool(map->complete);
  json.Key("centre");
  WriteVector(map->centre, &json);
  json.Key("axes").BeginArray();
  for (const auto& axis : map->axes) WriteVector(axis, &json);
  json.EndArray().Key("experts").BeginArray();
  for (size_t i = 0; i < map->experts.size(); ++i) {
    const std::string name(state->index().expert(map->experts[i]).name);
    if (experts != nullptr && !experts->Match(name)) continue;
    json.BeginObject().Key("name").String(name).Key("points").BeginArray();
    for (uint32_t p = map->offsets[i]; p < map->offsets[i + 1]; ++p) {
      json.BeginArray();
      for (const float coordinate : map->points[p]) WriteRounded(coordinate, &json);
      json.EndArray();
    }
    json.EndArray().EndObject();
  }
  json.EndArray().EndObject();
  return page;
}

}  // namespace coterie::gateway::http
