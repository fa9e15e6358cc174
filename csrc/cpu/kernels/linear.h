// What the kernels that hold Linear layers have in common.
#pragma once

#include "../../functor/arguments.h"

namespace clof {

// Sums of weights' gradients of which each is added to in the order of the chunks by one thread at a time: enough that
// threads hardly wait for their turn.
constexpr int64_t kSumGroups = 8;

inline int64_t sum_groups(int64_t chunks) { return chunks < kSumGroups ? chunks : kSumGroups; }

}  // namespace clof
