#include "model/store/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <exception>
#include <sstream>

#include "common/content_kind.h"
#include "common/quoted.h"
#include "common/utf8.h"

namespace coterie {
namespace {

// Thrown out of the event handler and caught in ParseYaml: the library offers no other way to stop.
struct Stop {
  Status status;
};

class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view name, const YamlLimits& limits) : name_(name), limits_(limits) {}

  YamlValue Take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Open(mark, "", anchor, YamlValue::Kind::kNull);
    Close();
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Refuse(mark, "an alias is not allowed");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    if (!IsWellFormed(value)) Refuse(mark, "the text is not UTF-8");
    // "", "~" and "null" arrive as scalars when plain; quoted ones carry the tag "!".
    const bool is_null = tag != "!" && (value.empty() || value == "~" || value == "null");
    const bool is_key = !stack_.empty() && stack_.back()->kind == YamlValue::Kind::kMap && !has_key_;
    if (is_key) {
      CheckPlain(mark, tag, anchor);
      if (stack_.back()->Find(value) != nullptr)
        Refuse(mark, absl::StrCat("field ", Quoted(value), " appears twice"));
      Count(mark);
      key_ = value;
      key_line_ = mark.line + 1;
      has_key_ = true;
      return;
    }
    Open(mark, tag, anchor, is_null ? YamlValue::Kind::kNull : YamlValue::Kind::kScalar);
    if (!is_null) stack_.back()->scalar = value;
    Close();
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value style) override {
    Open(mark, tag, anchor, YamlValue::Kind::kList);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override {
    Open(mark, tag, anchor, YamlValue::Kind::kMap);
    has_key_ = false;
  }
  void OnMapEnd() override { Close(); }

 private:
  [[noreturn]] void Refuse(const YAML::Mark& mark, std::string_view why) const {
    throw Stop{absl::InvalidArgumentError(absl::StrCat(name_, " line ", mark.line + 1, ": ", ToAbsl(why)))};
  }

  void CheckPlain(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) const {
    if (anchor != 0) Refuse(mark, "an anchor is not allowed");
    // "?" is what the parser gives a plain scalar or collection, "!" a quoted scalar.
    if (!tag.empty() && tag != "?" && tag != "!")
      Refuse(mark, absl::StrCat("tag ", Shown(tag), " is not allowed"));
  }

  void Count(const YAML::Mark& mark) {
    if (++n_values_ > limits_.max_values) {
      throw Stop{absl::InvalidArgumentError(
          absl::StrCat(name_, " line ", mark.line + 1, ": more than ", limits_.max_values, " values"))};
    }
  }

  // Appends a value to the innermost collection and makes it the innermost.
  void Open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlValue::Kind kind) {
    CheckPlain(mark, tag, anchor);
    Count(mark);
    YamlValue* value = &root_;
    int line = mark.line + 1;
    if (!stack_.empty()) {
      YamlValue& parent = *stack_.back();
      if (parent.kind == YamlValue::Kind::kMap) {
        if (!has_key_) Refuse(mark, "the name of a field must be a plain text");
        parent.keys.push_back(std::move(key_));
        line = key_line_;  // where a person looks for the field; the parser notices an empty value only later
        has_key_ = false;
      }
      parent.items.emplace_back();
      value = &parent.items.back();
    }
    value->kind = kind;
    value->line = line;
    // A parent grows only while nothing below it is open, so the pointers on the stack stay valid.
    stack_.push_back(value);
    if (stack_.size() > static_cast<size_t>(limits_.max_depth)) {
      throw Stop{absl::InvalidArgumentError(
          absl::StrCat(name_, " line ", mark.line + 1, ": nested deeper than ", limits_.max_depth))};
    }
  }
  void Close() { stack_.pop_back(); }

  const std::string name_;
  const YamlLimits limits_;
  YamlValue root_;
  std::vector<YamlValue*> stack_;
  std::string key_;
  int key_line_ = 0;
  bool has_key_ = false;  // of the innermost map: a key was read, its value comes next
  size_t n_values_ = 0;
};

StatusOr<YamlValue> ParseDocument(std::string_view text, std::string_view name, const YamlLimits& limits) {
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TreeBuilder builder(name, limits);
    if (!parser.HandleNextDocument(builder)) return YamlValue();
    YamlValue root = builder.Take();
    TreeBuilder rest(name, limits);
    if (parser.HandleNextDocument(rest)) {
      return absl::InvalidArgumentError(absl::StrCat(ToAbsl(name), " holds more than one document"));
    }
    return root;
  } catch (const Stop& stop) {
    return stop.status;
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(name), " line ", error.mark.line + 1, ": ", error.msg));
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(name), ": ", error.what()));
  }
}

}  // namespace

const YamlValue* YamlValue::Find(std::string_view key) const {
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] == key) return &items[i];
  }
  return nullptr;
}

StatusOr<YamlValue> ParseYaml(std::string_view text, std::string_view name, const YamlLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(name), " has ", text.size(), " bytes, the limit is ", limits.max_bytes));
  }
  StatusOr<YamlValue> root = ParseDocument(text, name, limits);
  const bool is_map_or_list = root.ok() && root->kind != YamlValue::Kind::kScalar;
  if (is_map_or_list) return root;
  // A Git LFS pointer is YAML, too: one long text.
  const std::string instead = WrongContent(Content::kYaml, text);
  if (instead.empty()) return root;
  return absl::InvalidArgumentError(absl::StrCat(ToAbsl(name), " ", instead));
}

}  // namespace coterie
