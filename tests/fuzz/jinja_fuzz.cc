// A chat template and a conversation, both hostile: "template NUL messages". Nothing may crash, hang or leak,
// what comes out is UTF-8, and no byte of the caller's may be marked as trusted.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/check.h"
#include "common/utf8.h"
#include "model/chat/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t n_bytes) {
  const std::string_view input(reinterpret_cast<const char*>(data), n_bytes);
  const size_t nul = input.find('\0');
  coterie::jinja::Limits limits;
  limits.steps = 20'000;  // small, so that a run ends within milliseconds
  limits.produced_bytes = 1 << 20;
  limits.output_bytes = 1 << 18;
  limits.range_elements = 1000;
  const auto chat = coterie::ChatTemplate::Create(input.substr(0, nul), {{"bos_token", "<s>"}}, limits);
  if (!chat.ok()) return 0;
  coterie::ChatRequest request;
  request.now = absl::UnixEpoch();
  request.time_zone = absl::UTCTimeZone();
  request.messages_json =
      nul == std::string_view::npos
          ? R"([{"role": "system", "content": " be \u0001 "}, {"role": "user", "content": "\u0001 \u0001x", "n": [1, 2.5]}])"
          : std::string(input.substr(nul + 1));
  const auto prompt = chat->Render(request);
  if (!prompt.ok()) return 0;
  COTERIE_CHECK(coterie::IsWellFormed(prompt->Text()));
  const bool template_writes_it = input.substr(0, nul).find('\1') != std::string_view::npos ||
                                  input.substr(0, nul).find('\\') != std::string_view::npos ||
                                  input.substr(0, nul).find("strftime") != std::string_view::npos;
  for (const coterie::PromptPiece& piece : prompt->pieces) {
    COTERIE_CHECK(!piece.text.empty());
    // The caller's marker byte, unless the template can spell it itself.
    COTERIE_CHECK(!piece.trusted || template_writes_it || piece.text.find('\1') == std::string::npos);
  }
  return 0;
}
