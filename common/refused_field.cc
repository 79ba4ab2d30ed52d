#include "common/refused_field.h"

#include "absl/strings/cord.h"

namespace coterie {
namespace {

constexpr char kFieldPayload[] = "coterie/field";

}  // namespace

Status OfField(Status status, std::string_view field) {
  if (!status.ok()) status.SetPayload(kFieldPayload, absl::Cord(ToAbsl(field)));
  return status;
}

std::optional<std::string> FieldOf(const Status& status) {
  const auto payload = status.GetPayload(kFieldPayload);
  if (!payload) return std::nullopt;
  return std::string(*payload);
}

}  // namespace coterie
