// The interpreter against jinja2: tests/golden/make_jinja.py and fuzz_templates.py wrote what it makes of
// every case.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "common/file.h"
#include "gtest/gtest.h"
#include "model/chat/chat_template.h"

namespace coterie {
namespace {

StatusOr<std::string> RenderWith(std::string_view source, const std::string& variables) {
  auto chat = ChatTemplate::Create(source, {});
  if (!chat.ok()) return chat.status();
  if (!chat->present()) return std::string();
  ChatRequest request = ChatRequest::Of({});
  request.extra_json = variables;
  auto prompt = chat->Render(request);
  if (!prompt.ok()) return prompt.status();
  return prompt->Text();
}

void HoldTo(const char* file) {
  const auto path = std::filesystem::path(COTERIE_SOURCE_DIR) / "tests/golden" / file;
  const auto golden = nlohmann::ordered_json::parse(ReadFile(path, 10 << 20).value());
  const std::string variables = golden["variables"].dump();
  int n = 0;
  for (const auto& example : golden["cases"]) {
    const std::string source = example["template"];
    SCOPED_TRACE(source);
    const auto text = RenderWith(source, variables);
    ++n;
    if (example.contains("error")) {
      EXPECT_FALSE(text.ok()) << "jinja2 says " << example["error"] << "\nwe print " << *text;
    } else if (text.ok()) {
      EXPECT_EQ(*text, example["expected"].get<std::string>());
    } else {
      ADD_FAILURE() << text.status();
    }
  }
  EXPECT_GT(n, 500);
}

TEST(JinjaGoldenTest, RendersWhatJinja2RendersAndFailsWhereItFails) { HoldTo("jinja.json"); }

// Random templates over every filter, test, method and statement.
TEST(JinjaGoldenTest, RendersRandomTemplatesAsJinja2Does) { HoldTo("jinja_fuzz.json"); }

}  // namespace
}  // namespace coterie
