#ifndef COTERIE_TOOLS_COTERIE_ASK_MANY_H_
#define COTERIE_TOOLS_COTERIE_ASK_MANY_H_

#include <string>
#include <vector>

#include "tools/coterie/command.h"
#include "tools/coterie/question.h"

namespace coterie::command {

// Asks all questions at once (at most 64 in flight). Lines of the answers appear as they are complete, each
// with its question's number; a table of routing time, time to first token, tokens/s and worker ends it. The
// worst exit code of all is the result.
int AskMany(const Connection& connection, const QuestionOptions& options, absl::Duration timeout,
            const std::vector<std::string>& questions);

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_ASK_MANY_H_
