#include "model/chat/jinja/builtins.h"

namespace coterie::jinja {

Status Unknown(std::string_view kind, std::string_view name) {
  return absl::InvalidArgumentError(
      absl::StrCat("there is no ", ToAbsl(kind), " named '", ToAbsl(name), "'"));
}

Status NeedsInteger(std::string_view argument, const Value& value) {
  return absl::InvalidArgumentError(absl::StrCat("the argument '", ToAbsl(argument),
                                                 "' must be an integer, got ", ToAbsl(value.TypeName())));
}

const Value* Args::Next(std::string_view name) {
  // Given both ways: the named one stays unused and Done() names it.
  return next_ < positional_.size() ? &positional_[next_++] : NextNamed(name);
}

const Value* Args::NextNamed(std::string_view name) {
  used_.resize(keyword_.size());
  for (size_t i = 0; i < keyword_.size(); ++i) {
    if (keyword_[i].first != name) continue;
    used_[i] = true;
    return &keyword_[i].second;
  }
  return nullptr;
}

StatusOr<Value> Args::NeedNamed(std::string_view name) {
  const Value* value = NextNamed(name);
  if (!value) return absl::InvalidArgumentError(absl::StrCat("the argument '", ToAbsl(name), "' is missing"));
  return *value;
}

StatusOr<Value> Args::Need(std::string_view name) {
  const Value* value = Next(name);
  if (!value) return absl::InvalidArgumentError(absl::StrCat("the argument '", ToAbsl(name), "' is missing"));
  return *value;
}

StatusOr<int64_t> Args::NeedInt(std::string_view name) {
  ASSIGN_OR_RETURN(const Value value, Need(name));
  int64_t number;
  if (!value.ToInt(&number)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the argument '", ToAbsl(name), "' must be an integer, got ", ToAbsl(value.TypeName())));
  }
  return number;
}

StatusOr<int64_t> Args::NextInt(std::string_view name, int64_t fallback) {
  const Value* value = Next(name);
  int64_t number = fallback;
  if (value && !value->is_none() && !value->ToInt(&number)) {
    return NeedsInteger(name, *value);
  }
  return number;
}

StatusOr<bool> Args::NextBool(std::string_view name, bool fallback) {
  const Value* value = Next(name);
  return value ? IsTrue(*value) : fallback;
}

StatusOr<Text> Args::NextText(std::string_view name, std::string_view fallback) {
  const Value* value = Next(name);
  if (!value || value->is_none()) return Text::Trusted(fallback);
  if (!value->text()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the argument '", ToAbsl(name), "' must be a string, got ", ToAbsl(value->TypeName())));
  }
  return *value->text();
}

StatusOr<Text> Args::NeedText(std::string_view name) {
  ASSIGN_OR_RETURN(const Value value, Need(name));
  if (!value.text()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the argument '", ToAbsl(name), "' must be a string, got ", ToAbsl(value.TypeName())));
  }
  return *value.text();
}

Status Args::Done() const {
  if (next_ < positional_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("takes at most ", next_, " arguments, got ", positional_.size()));
  }
  for (size_t i = 0; i < keyword_.size(); ++i) {
    if (i >= used_.size() || !used_[i]) {
      return absl::InvalidArgumentError(absl::StrCat("unexpected argument '", keyword_[i].first, "'"));
    }
  }
  return absl::OkStatus();
}

std::vector<Value> Args::TakeRest() {
  std::vector<Value> rest(positional_.begin() + static_cast<ptrdiff_t>(next_), positional_.end());
  next_ = positional_.size();
  return rest;
}

}  // namespace coterie::jinja
