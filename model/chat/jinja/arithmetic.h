#ifndef COTERIE_MODEL_CHAT_JINJA_ARITHMETIC_H_
#define COTERIE_MODEL_CHAT_JINJA_ARITHMETIC_H_

#include "common/status.h"
#include "model/chat/jinja/ast.h"
#include "model/chat/jinja/interpreter.h"

namespace coterie::jinja {

// Python's binary operators on numbers, strings (+, *, %) and lists (+, *). Integers are 64 bits: what
// overflows is InvalidArgument, as are division by zero and operands that do not go together.
StatusOr<Value> Arithmetic(Interpreter& in, BinaryExpr::Op op, const Value& left, const Value& right);

// The error for integers beyond 64 bits.
Status DoesNotFit();

// `format % values`. `named`, which may be null, is where "%(name)s" looks.
StatusOr<Value> FormatPercent(Interpreter& in, const Text& format, const std::vector<Value>& values,
                              const Dict* named);

// `needle in container`.
StatusOr<bool> Contains(Interpreter& in, const Value& container, const Value& needle);

// value[begin:end:step] for strings and lists; none stands for "left out".
StatusOr<Value> Slice(Interpreter& in, const Value& value, const Value& begin, const Value& end,
                      const Value& step);

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_ARITHMETIC_H_
