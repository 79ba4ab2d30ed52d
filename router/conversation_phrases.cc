#include <algorithm>

#include "router/conversation.h"

namespace coterie {
namespace {

constexpr std::string_view kSmallTalk[] = {
    "Thank you!", "Thank you very much, that was helpful.", "Thanks, that helps.", "Many thanks", "Hello",
    "Hi", "Hey, how are you?", "Good evening", "Goodbye", "See you later", "Okay", "All right.", "Got it.",
    "I understand.", "Yes", "Yes, do that.", "No", "No, that is all.", "Great!", "Awesome", "Very good",
    "That works.", "You are great.", "Sorry", "How are you doing?", "Have a nice day!", "No problem.",
    "Of course.", "Right.", "haha",
    //
    "Danke", "Vielen Dank!", "Hallo", "Guten Tag", "Tschüss", "Verstanden.", "In Ordnung.", "Ja, bitte.",
    "Nein", "Super!", "Wie geht es dir?", "Schönen Tag noch!", "Kein Problem.", "Alles gut.", "Genau.",
    "Entschuldigung",
    //
    "Merci !", "Merci, c'est très gentil.", "Bonjour", "Salut", "Au revoir", "Très bien, merci.", "Oui",
    "Non merci", "Parfait.", "Ça va ?", "Bonne journée !", "Pas de problème.", "Bien sûr.", "Exactement.",
    "Désolé",
    //
    "Gracias", "Gracias por la ayuda.", "Hola", "Buenos días", "Adiós", "Muy bien, gracias.", "Sí, por favor",
    "Perfecto.", "¿Qué tal?", "¡Buen día!", "No hay problema.", "Claro.", "Exacto.", "De acuerdo.",
    "Lo siento",
    //
    "Obrigado", "Olá", "Grazie", "Ciao", "Dank je wel", "Tack", "Dziękuję", "Спасибо", "Привет", "谢谢",
    "你好", "ありがとう"};

// The same in each language. None has a verb that questions have, too ("change").
constexpr std::string_view kFollowUps[] = {
    "Give me another example of this.", "Why does it do that?", "How does that work exactly?",
    "Please continue.", "What do you mean by that?", "What would be better instead?", "Is that right?",
    "Explain it again, more simply.", "What else is there?", "And if I want several of these?",
    "How do I do this step by step?", "What is the disadvantage of this?", "When should one use it?",
    "What else should I know about it?", "Summarise it.", "Can you correct it?", "That does not work.",
    //
    "Gib mir noch ein Beispiel dafür.", "Warum macht es das?", "Wie funktioniert das genau?",
    "Mach bitte weiter.", "Was meinst du damit?", "Was wäre stattdessen besser?", "Stimmt das?",
    "Erkläre es noch einmal, einfacher.", "Was gibt es sonst noch?", "Und wenn ich mehrere davon will?",
    "Wie mache ich das Schritt für Schritt?", "Was ist der Nachteil davon?", "Wann sollte man es verwenden?",
    "Was sollte ich noch darüber wissen?", "Fasse es zusammen.", "Kannst du das berichtigen?",
    "Das funktioniert nicht.",
    //
    "Donne-moi un autre exemple.", "Pourquoi fait-il cela ?", "Comment cela marche-t-il exactement ?",
    "Continue, s'il te plaît.", "Que veux-tu dire par là ?", "Qu'est-ce qui serait mieux ?",
    "Est-ce correct ?", "Explique-le encore, plus simplement.", "Qu'y a-t-il d'autre ?",
    "Et si j'en veux plusieurs ?", "Comment faire cela étape par étape ?", "Quel en est l'inconvénient ?",
    "Quand faut-il l'utiliser ?", "Que dois-je savoir d'autre ?", "Résume-le.", "Peux-tu le corriger ?",
    "Cela ne marche pas.",
    //
    "Dame otro ejemplo de esto.", "¿Por qué hace eso?", "¿Cómo funciona eso exactamente?",
    "Continúa, por favor.", "¿Qué quieres decir con eso?", "¿Qué sería mejor?", "¿Es correcto?",
    "Explícalo otra vez, más sencillo.", "¿Qué más hay?", "¿Y si quiero varios?",
    "¿Cómo lo hago paso a paso?", "¿Cuál es la desventaja?", "¿Cuándo se debe usar?",
    "¿Qué más debería saber?", "Resúmelo.", "¿Puedes corregirlo?", "Eso no funciona."};

// One of each sort of question that people bring to any assistant: sports, countries, history, sums, cooking,
// letters, health, the household, … In English only: in a language that has an expert of its own such a
// question goes there anyway.
constexpr std::string_view kGeneral[] = {
    "Which team won the championship?", "Who is the best player of all time?", "What are the rules of chess?",
    "Which country has the largest population?", "Where is the highest mountain in the world?",
    "What is the longest river of Africa?", "Who was the first president of the United States?",
    "When was the French Revolution?", "Who invented the telephone?",
    "What caused the fall of the Roman Empire?", "How far away is the Moon?", "Why is the sky blue?",
    "How does electricity work?", "What is the boiling point of water?", "What is the square root of 81?",
    "Multiply 14 by 23.", "How many grams are in an ounce?", "How is the weather today?",
    "What time is it in Tokyo?", "What day of the week is it?",
    //
    "Give me a recipe for pancakes.", "How long do I boil an egg?", "What wine goes with fish?",
    "Which restaurant should I go to?", "Suggest a good book.", "Which series should I watch?",
    "Who directed the film?", "Who painted the Mona Lisa?", "Summarise the novel Moby-Dick.",
    "Which band sang this song?", "How do I learn to play the guitar?", "Write a short story about a dragon.",
    "Write a song about the sea.", "Write a letter to my landlord.",
    "Write an invitation to a birthday party.", "Write a cover letter for a job.",
    "Help me with a speech for a wedding.", "Tell me something funny.", "Tell me a riddle.",
    "Give me a name for my cat.",
    //
    "What should I give my mother for her birthday?", "How do I make new friends?",
    "My girlfriend is angry with me.", "I feel sad and lonely.", "How can I sleep better?",
    "How do I lose weight?", "What helps against a headache?", "Which exercises are good for the back?",
    "How do I remove a stain from a shirt?", "How do I change a tyre?", "How do I paint a wall?",
    "How do I grow tomatoes on a balcony?", "How do I train a puppy?", "How do I raise children?",
    "How should I prepare for an exam?", "How do I ask for a raise?", "How do I save money?",
    "What is the stock market?", "How are taxes calculated?", "How does an election work?",
    //
    "What does the constitution say?", "Who is the prime minister of Japan?", "What is philosophy?",
    "What did Socrates teach?", "What is democracy?", "What is the meaning of life?",
    "Plan a trip to Rome for me.", "How do I get from the airport to the city?",
    "Do I need a visa for Canada?", "Which language is spoken in Brazil?",
    "How do you say good morning in Japanese?", "What is the plural of mouse?",
    "Correct the grammar of my sentence.", "What is the largest planet?", "What is an atom made of?",
    "How does a car engine work?", "Which phone should I buy?", "How do I fold a paper plane?",
    "What do I wear to an interview?", "How do I apologise to a friend?"};

}  // namespace

std::span<const std::string_view> SmallTalkPhrases() { return kSmallTalk; }
std::span<const std::string_view> FollowUpPhrases() { return kFollowUps; }
std::span<const std::string_view> GeneralQuestions() { return kGeneral; }

StatusOr<ConversationPhrases> ConversationPhrases::Create(std::vector<float> small_talk,
                                                          std::vector<float> follow_ups,
                                                          std::vector<float> general, size_t dim) {
  for (const std::vector<float>* vectors : {&small_talk, &follow_ups, &general}) {
    if (dim != 0 && vectors->size() % dim == 0) continue;
    return absl::InvalidArgumentError(absl::StrCat("phrases of conversations have ", vectors->size(),
                                                   " numbers, want a multiple of ", dim));
  }
  ConversationPhrases phrases;
  phrases.small_talk_ = std::move(small_talk);
  phrases.follow_ups_ = std::move(follow_ups);
  phrases.general_ = std::move(general);
  return phrases;
}

float ConversationPhrases::Nearest(std::span<const float> text, const std::vector<float>& phrases) {
  float nearest = -1;
  for (size_t begin = 0; begin < phrases.size(); begin += text.size()) {
    float dot = 0;
    for (size_t i = 0; i < text.size(); ++i) dot += text[i] * phrases[begin + i];
    nearest = std::max(nearest, dot);
  }
  return nearest;
}

}  // namespace coterie
