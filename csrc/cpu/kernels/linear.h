// What the kernels that hold Linear layers have in common.
#pragma once

#include "../../functor/arguments.h"

namespace clof {

// Sums of weights' gradients of which each is added to in the order of the chunks by one thread at a time: enough that
// threads hardly wait for their turn.
constexpr int64_t kSumGroups = 8;

inline int64_t sum_groups(int64_t chunks) { return chunks < kSumGroups ? chunks : kSumGroups; }

// What multiplies bfloat16 numbers, where something does so faster than float32: dot products of pairs, or the tile
// registers of AMX, which tests also run in software.
enum class BFloat16Unit : int { none, pairs, tiles, emulated_tiles };

}  // namespace clof
