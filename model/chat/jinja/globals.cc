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
  return List::MakeRange(std::move(items), begin, end, step, in.limits());
}

// cycler(a, b, ...)
StatusOr<Value> MakeCycler(Interpreter& in, const Value&, Args& args) {
  auto cycler = std::make_shared<Cycler>();
  cycler->items = args.TakeRest();
  RETURN_IF_ERROR(args.Done());
  if (cycler->items.empty()) return absl::InvalidArgumentError("needs at least one value");
  ASSIGN_OR_RETURN(const Value list, List::Make(cycler->items, in.limits()));
  cycler->depth = list.depth();
  return Value(std::move(cycler));
}

// joiner(separator=', '): its first call gives '', every other the separator.
StatusOr<Value> MakeJoiner(Interpreter& in, const Value&, Args& args) {
  const Value* separator = args.Next("sep");
  auto joiner = std::make_shared<Cycler>();
  joiner->is_joiner = true;
  joiner->items.push_back(separator ? *separator : Value(Text::Trusted(", ")));
  RETURN_IF_ERROR(args.Done());
  joiner->depth = joiner->items[0].depth() + 1;
  if (joiner->depth > in.limits().depth) return List::Make(joiner->items, in.limits());
  return Value(std::move(joiner));
}

StatusOr<Value> Lipsum(Interpreter&, const Value&, Args&) {
  return absl::InvalidArgumentError("random text is not supported: a prompt must be the same every time");
}

// From an iterable of pairs, as Python's dict() takes it.
Status SetPairs(Interpreter& in, const Value& pairs, DictBuilder* dict) {
  ASSIGN_OR_RETURN(const Value items, in.Iterate(pairs));
  RETURN_IF_ERROR(in.budget().Elements(items.list()->items.size() * 8));
  for (const Value& item : items.list()->items) {
    ASSIGN_OR_RETURN(const Value pair, in.Iterate(item));
    const std::vector<Value>& parts = pair.list()->items;
    if (parts.size() != 2) {
      return absl::InvalidArgumentError(
          absl::StrCat("takes a dict or a list of pairs, got an element of ", parts.size(), " parts"));
    }
    RETURN_IF_ERROR(dict->Set(parts[0], parts[1]));
  }
  return absl::OkStatus();
}

// dict(other?, name=value, ...)
StatusOr<Value> MakeDict(Interpreter& in, const Value&, Args& args) {
  DictBuilder dict;
  const std::vector<Value> rest = args.TakeRest();
  if (rest.size() > 1) return absl::InvalidArgumentError("takes one positional argument at most");
  if (rest.size() == 1 && !rest[0].dict()) {
    RETURN_IF_ERROR(SetPairs(in, rest[0], &dict));
  } else if (rest.size() == 1) {
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
    {"raise_exception", RaiseException},
    {"strftime_now", StrftimeNow},
    {"range", Range},
    {"dict", MakeDict},
    {"namespace", MakeNamespace},
    {"cycler", MakeCycler},
    {"joiner", MakeJoiner},
    {"lipsum", Lipsum},
};

}  // namespace

const Builtin* FindGlobal(std::string_view name) {
  for (const Builtin& global : kGlobals) {
    if (global.name == name) return &global;
  }
  return nullptr;
}

}  // namespace coterie::jinja
