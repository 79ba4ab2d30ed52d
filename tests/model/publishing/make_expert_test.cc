#include "model/publishing/make_expert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/publishing/example_texts.h"
#include "model/store/expert_card.h"
#include "model/store/prototypes.h"
#include "tests/model/format/expect_refused.h"
#include "tests/model/publishing/plain_folder.h"

namespace coterie {
namespace {

using testing::AsBytes;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using testing::TempFolder;
using testing::TinyAdapterJson;
using testing::WritePlain;

// The first letter says the field (a, b or c: an axis), the length of the text how far it leans to a fourth
// direction that all have in common.
class LettersView final : public RoutingView {
 public:
  static std::vector<float> VectorOf(const std::string& text) {
    std::vector<float> vector(4, 0);
    vector[static_cast<size_t>(text[0] - 'a') % 3] = 1;
    vector[3] = 0.05f * static_cast<float>(text.size() % 7);
    const float norm = std::sqrt(1 + vector[3] * vector[3]);
    for (float& value : vector) value /= norm;
    return vector;
  }
  StatusOr<EmbeddedTexts> Embed(std::span<const std::string> texts) override {
    batches.push_back(texts.size());
    EmbeddedTexts embedded{.dim = 4, .values = {}, .embedder = Sha256("letters")};
    for (const std::string& text : texts) {
      const std::vector<float> vector = VectorOf(text);
      embedded.values.insert(embedded.values.end(), vector.begin(), vector.end());
    }
    return embedded;
  }
  StatusOr<std::optional<Rival>> NearestRival(const std::string& text, std::string_view except) override {
    ++asked;
    if (except == "bees") return std::nullopt;  // it is the only one
    return Rival{"bees", VectorOf(text)[1]};
  }

  std::vector<size_t> batches;
  size_t asked = 0;
};

FolderContent Plain(std::string_view more = "") {
  const TempFolder folder;
  WritePlain(folder, more);
  std::vector<Status> problems;
  FolderContent content = ReadFolder(folder.path(), nullptr, &problems);
  EXPECT_THAT(problems, ElementsAre());
  return content;
}

std::vector<std::string> Questions(char field, size_t n) {
  std::vector<std::string> questions;
  for (size_t i = 0; i < n; ++i) questions.push_back(std::string(i + 1, field));
  return questions;
}

const std::string& FileOf(const MadeExpert& made, std::string_view name) {
  for (const MadeExpert::File& file : made.files) {
    if (file.name == name) return file.content;
  }
  static const std::string none;
  return none;
}

TEST(MakeExpertTest, APlainFolderGetsACardAndPrototypesByTheEmbedderThatRoutes) {
  LettersView view;
  CardFields fields;
  fields.name = "ants";
  fields.description = "about \"ants\": their hills\\paths";
  fields.tags = {"insects"};
  fields.min_score = 0.25;
  fields.licence = "MIT";
  const auto made = MakeExpert(Plain("\"base_model_name_or_path\": \"org/Tiny-Llama/\""), fields,
                               Questions('a', 70), &view);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->name, "ants");
  const auto card = ParseExpertCard(FileOf(*made, "expert.yaml"), "card");
  ASSERT_TRUE(card.ok()) << card.status();
  EXPECT_EQ(card->description, fields.description);
  EXPECT_THAT(card->tags, ElementsAre("insects"));
  EXPECT_EQ(card->min_score, 0.25f);
  EXPECT_EQ(card->base, "Tiny-Llama");
  EXPECT_EQ(card->version, "1");
  const std::string& file = FileOf(*made, "prototypes.safetensors");
  const auto prototypes = ParsePrototypes(AsBytes(file), "prototypes");
  ASSERT_TRUE(prototypes.ok()) << prototypes.status();
  EXPECT_EQ(prototypes->n, PrototypesFor(70));
  EXPECT_EQ(prototypes->embedder_digest, Sha256("letters"));
  EXPECT_THAT(view.batches, ElementsAre(32, 32, 6));
  // All of a's questions reach it: bees are elsewhere.
  ASSERT_TRUE(made->separation.has_value());
  EXPECT_EQ(made->separation->n_examples, 70u);
  EXPECT_EQ(made->separation->n_reached, 70u);
  EXPECT_EQ(made->separation->nearest_rival->name, "bees");
  EXPECT_THAT(SeparationInWords(*made->separation, "ants"), SizeIs(1));
  // The same again is the same, byte for byte.
  const auto again = MakeExpert(Plain("\"base_model_name_or_path\": \"org/Tiny-Llama/\""), fields,
                                Questions('a', 70), &view);
  EXPECT_EQ(FileOf(*again, "prototypes.safetensors"), file);
}

TEST(MakeExpertTest, AnExpertThatItsOwnExamplesWouldNotReachIsWarnedOf) {
  LettersView view;
  CardFields fields;
  fields.name = "mixed";
  fields.description = "ants and bees";
  std::vector<std::string> questions = Questions('a', 6);
  for (const std::string& question : Questions('b', 6)) questions.push_back(question);
  const auto made = MakeExpert(Plain(), fields, questions, &view);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->separation->n_reached, 6u);
  EXPECT_THAT(made->separation->lost_to, ElementsAre(std::pair<std::string, size_t>("bees", 6)));
  const std::vector<std::string> words = SeparationInWords(*made->separation, "mixed");
  EXPECT_THAT(words.back(), HasSubstr("warning: only 50 % of the examples would reach it"));
  EXPECT_THAT(words.back(), HasSubstr("6 to bees"));
  EXPECT_THAT(words.back(), HasSubstr("\"bb\""));
}

TEST(MakeExpertTest, WhatFallsBelowTheLeastScoreIsCountedAsLeftToTheBase) {
  std::vector<ExampleScore> scores;
  for (int i = 0; i < 10; ++i) scores.push_back({"q", i < 4 ? 0.2f : 0.6f, std::nullopt});
  const Separation found = MeasureSeparation(scores, 0.3);
  EXPECT_EQ(found.n_reached, 6u);
  EXPECT_EQ(found.n_below_min_score, 4u);
  EXPECT_THAT(SeparationInWords(found, "x").front(), HasSubstr("no other expert is there"));
  EXPECT_THAT(SeparationInWords(found, "x").back(), HasSubstr("4 to the base"));
  EXPECT_EQ(MeasureSeparation(scores, std::nullopt).n_reached, 10u);
}

TEST(MakeExpertTest, ACardThatIsThereWinsAndSaysSo) {
  LettersView view;
  FolderContent folder = Plain();
  folder.card = "name: ants\nversion: \"3\"\ndescription: the card's own\n";
  CardFields fields;
  fields.description = "another";
  fields.licence = "MIT";
  const auto made = MakeExpert(folder, fields, Questions('a', 20), &view);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(FileOf(*made, "expert.yaml"), *folder.card);
  EXPECT_THAT(made->notes,
              Contains("the folder has a card, which wins: --description, --licence are not used"));
  fields.name = "bees";
  EXPECT_REFUSED(MakeExpert(folder, fields, Questions('a', 20), &view).status(), kInvalid,
                 "--name is \"bees\", the card in the folder names the expert ants");
  // Prototypes that are there win as well, and the examples measure them.
  folder.prototypes = FileOf(*made, "prototypes.safetensors");
  const auto measured = MakeExpert(folder, {}, Questions('b', 20), &view);
  ASSERT_TRUE(measured.ok()) << measured.status();
  EXPECT_EQ(FileOf(*measured, "prototypes.safetensors"), *folder.prototypes);
  EXPECT_EQ(measured->separation->n_reached, 0u);
  // Those of another embedder are refused.
  folder.prototypes = WritePrototypes(std::vector<float>{1, 0, 0, 0}, 4, Sha256("another"));
  EXPECT_REFUSED(MakeExpert(folder, {}, Questions('a', 20), &view).status(), kPrecondition,
                 "made by the embedder");
}

TEST(MakeExpertTest, WhatIsMissingOrCannotStandOnACardIsRefusedByName) {
  LettersView view;
  CardFields fields;
  fields.name = "ants";
  EXPECT_REFUSED(MakeExpert(Plain(), fields, Questions('a', 3), &view).status(), kInvalid, "--description");
  fields.description = "ants";
  EXPECT_REFUSED(MakeExpert(Plain(), fields, {}, &view).status(), kInvalid, "--examples");
  fields.name = "Ants!";
  EXPECT_REFUSED(MakeExpert(Plain(), fields, {}, &view).status(), kInvalid, "--name");
  fields.name = "ants";
  fields.version = "a b";
  EXPECT_REFUSED(MakeExpert(Plain(), fields, Questions('a', 3), &view).status(), kInvalid, "version");
  fields.version = "";
  fields.description = "\xff";
  EXPECT_REFUSED(MakeExpert(Plain(), fields, Questions('a', 3), &view).status(), kInvalid, "UTF-8");
  fields.description = std::string(3000, 'x');
  EXPECT_REFUSED(MakeExpert(Plain(), fields, Questions('a', 3), &view).status(), kInvalid, "2048");
  EXPECT_EQ(view.asked, 0u);
}

TEST(MakeExpertTest, ManyExamplesAreComparedInPart) {
  LettersView view;
  CardFields fields;
  fields.name = "ants";
  fields.description = "ants";
  const auto made = MakeExpert(Plain(), fields, Questions('a', 450), &view);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(view.asked, kMostCompared);
  EXPECT_EQ(made->separation->n_examples, kMostCompared);
}

TEST(ExampleTextsTest, QuestionsAreLinesWithoutCommentsAndRepetitions) {
  const TempFolder folder;
  const auto file =
      folder.Write("q.txt", "\xEF\xBB\xBFWhat is a?\r\n\n# a comment\n  What is b?  \nWhat is a?\n");
  const auto read = ReadExamples(file);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(read->texts, ElementsAre("What is a?", "What is b?"));
  EXPECT_THAT(read->notes, ElementsAre(HasSubstr("1 texts are there twice")));
  const auto thin = ReadExamples(file, {.max_texts = 1});
  EXPECT_THAT(thin->texts, ElementsAre("What is a?"));
  EXPECT_REFUSED(ReadExamples(folder.Write("e.txt", "#\n\n")).status(), kInvalid, "holds no question");
  EXPECT_REFUSED(ReadExamples(folder.Write("b.txt", "ok\n\xff\xfe\n")).status(), kInvalid, "b.txt line 2");
  EXPECT_REFUSED(ReadExamples(folder.Write("l.txt", std::string(9000, 'x'))).status(), kInvalid,
                 "has 9000 bytes, the limit is 8192");
  EXPECT_REFUSED(ReadExamples(folder.path() / "none").status(), absl::StatusCode::kNotFound, "none");
  EXPECT_REFUSED(ReadExamples(folder.path()).status(), kInvalid, folder.path().string());
}

TEST(ExampleTextsTest, DocumentsBecomePassagesAndOtherFilesAreNamed) {
  const TempFolder folder;
  std::filesystem::create_directories(folder.path() / "sub/.hidden");
  folder.Write("a.md", "First.\n\nSecond.\n\n" + std::string(1500, 'w') + std::string(1500, 'v'));
  folder.Write("sub/b.txt", "Third ä.");
  folder.Write("sub/.hidden/c.txt", "Never.");
  folder.Write("d.pdf", "%PDF");
  folder.Write("e.txt", "\xff\xfe");
  const auto read = ReadDocuments(folder.path());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(read->texts, SizeIs(5));  // both short ones together, the long one in three, the third
  EXPECT_EQ(read->texts.front(), "First.\n\nSecond.");
  EXPECT_EQ(read->texts.back(), "Third ä.");
  EXPECT_THAT(read->notes, Contains(HasSubstr("2 files are no UTF-8 text")));
  EXPECT_REFUSED(ReadDocuments(folder.path() / "sub/.hidden/c.txt").status(), absl::StatusCode::kNotFound,
                 "no folder");
  EXPECT_REFUSED(ReadDocuments(folder.path(), {.max_files = 2}).status(), kInvalid, "more than 2 files");
  EXPECT_REFUSED(ReadDocuments(folder.path(), {.max_folder_bytes = 10}).status(), kInvalid, "10 bytes");
}

TEST(MakePrototypesTest, FieldsThatLieApartEachGetAPrototype) {
  LettersView view;
  std::vector<std::string> texts;
  for (const char field : {'a', 'b', 'c'}) {
    for (const std::string& text : Questions(field, 8)) texts.push_back(text);
  }
  const EmbeddedTexts embedded = *view.Embed(texts);
  const std::vector<float> prototypes = MakePrototypes(embedded);
  ASSERT_EQ(prototypes.size(), 3u * 4);
  for (size_t i = 0; i < embedded.n(); ++i) EXPECT_GT(NearestPrototype(embedded.row(i), prototypes), 0.98f);
  EXPECT_EQ(PrototypesFor(1), 1u);
  EXPECT_EQ(PrototypesFor(100'000), 8u);
  // Texts that cancel each other, and one alone.
  const EmbeddedTexts opposite{.dim = 2, .values = {1, 0, -1, 0}, .embedder = {}};
  EXPECT_EQ(MakePrototypes(opposite).size(), 2u);
  const EmbeddedTexts one{.dim = 2, .values = {1, 0}, .embedder = {}};
  EXPECT_THAT(ScoresOfUnseen(one), ElementsAre(1.0f));
}

}  // namespace
}  // namespace coterie
