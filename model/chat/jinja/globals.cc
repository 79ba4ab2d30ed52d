// Functions every template may call.
#include <ctime>

#include "model/chat/jinja/builtins.h"
#include "model/chat/jinja/interpreter.h"

namespace coterie::jinja {
namespace {

StatusOr<Value> RaiseException(Interpreter& in, const Value&, Args& args) {
  ASSIGN_OR_RETURN(const Value message, args.Need("message"));
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const Text text, ToText(message, &in.budget()));
  return in.Raise(text.bytes());
}

StatusOr<Value> StrftimeNow(Interpreter& in, const Value&, Args& args) {
  ASSIGN_OR_RETURN(const Text format, args.NextText("format", ""));
  RETURN_IF_ERROR(args.Done());
  static constexpr size_t kMaxFormatBytes = 256;
  if (format.size() > kMaxFormatBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the format has ", format.size(), " bytes, the limit is ", kMaxFormatBytes));
  }
  const std::tm time = absl::ToTM(in.now(), in.time_zone());
  char buffer[4096];
  // The format is the template's own; the C library bounds what it writes.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  const size_t n = std::strftime(buffer, sizeof(buffer), std::string(format.bytes()).c_str(), &time);
#pragma GCC diagnostic pop
  return Value(Text::Trusted(std::string_view(buffer, n)));
}

StatusOr<Value> Range(Interpreter& in, const Value&, Args& args) {
  std::vector<Value> bounds = args.TakeRest();
  RETURN_IF_ERROR(args.Done());
  int64_t numbers[3] = {0, 0, 1};
  if (bounds.empty() || bounds.size() > 3) return absl::InvalidArgumentError("takes one to three integers");
  if (bounds.size() == 1) bounds.insert(bounds.begin(), Value(int64_t{0}));
  for (size_t i = 0; i < bounds.size(); ++i) {
    if (!bounds[i].ToInt(&numbers[i])) {
      return absl::InvalidArgumentError(absl::StrCat("takes integers, got ", ToAbsl(bounds[i].TypeName())));
    }
  }
  const auto [begin, end, step] = numbers;
  if (step == 0) return absl::InvalidArgumentError("the step cannot be zero");
  std::vector<Value> items;
  for (__int128 i = begin; step > 0 ? i < end : i > end; i += step) {
    if (items.size() == in.limits().range_elements) {
      return absl::ResourceExhaustedError(
          absl::StrCat("has more elements than the limit of ", in.limits().range_elements));
    }
    RETURN_IF_ERROR(in.budget().Elements(1));
    items.emplace_back(static_cast<int64_t>(i));
  }
  return List::Make(std::move(items), in.limits());
}

// dict(other?, name=value, ...)
StatusOr<Value> MakeDict(Interpreter& in, const Value&, Args& args) {
  DictBuilder dict;
  const std::vector<Value> rest = args.TakeRest();
  if (rest.size() > 1) return absl::InvalidArgumentError("takes one positional argument at most");
  if (rest.size() == 1) {
    if (!rest[0].dict()) {
      return absl::InvalidArgumentError(absl::StrCat("takes a dict, got ", ToAbsl(rest[0].TypeName())));
    }
    RETURN_IF_ERROR(in.budget().Elements(rest[0].dict()->items().size() * 8));
    for (const auto& [key, value] : rest[0].dict()->items()) RETURN_IF_ERROR(dict.Set(key, value));
  }
  for (const auto& [name, value] : args.keyword()) RETURN_IF_ERROR(dict.Set(name, value));
  return dict.Build(in.limits());
}

StatusOr<Value> MakeNamespace(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value initial, MakeDict(in, self, args));
  Namespace* ns;
  const Value result = in.MakeNamespace(&ns);
  RETURN_IF_ERROR(in.budget().Elements(8));
  for (const auto& [key, value] : initial.dict()->items()) {
    RETURN_IF_ERROR(in.budget().Step(1 + ns->attributes.values.size() / 8));  // Set looks through all of them
    if (!key.text() || key.text()->bytes().starts_with('_')) {
      return absl::InvalidArgumentError("attributes of a namespace are names without a leading underscore");
    }
    ns->attributes.Set(key.text()->bytes(), value);
  }
  return result;
}

constexpr Builtin kGlobals[] = {
    {"raise_exception", RaiseException}, {"strftime_now", StrftimeNow}, {"range", Range}, {"dict", MakeDict},
    {"namespace", MakeNamespace},
};

}  // namespace

const Builtin* FindGlobal(std::string_view name) {
  for (const Builtin& global : kGlobals) {
    if (global.name == name) return &global;
  }
  return nullptr;
}

}  // namespace coterie::jinja
