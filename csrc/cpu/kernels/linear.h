// What the kernels that hold Linear layers have in common.
#pragma once

#include "../../functor/arguments.h"

namespace clof {

enum class Activation : int { silu, relu, leaky_relu, softplus, tanh, gelu };

// The tensors of one Linear layer, dense, in the storage type of features; bias may be null.
struct LinearArguments {
  const void* weight;  // (outputs, inputs)
  const void* bias;    // (outputs,)
  void* grad_weight;
  void* grad_bias;
};

// Sums of weights' gradients of which each is added to in the order of the chunks by one thread at a time: enough that
// threads hardly wait for their turn.
constexpr int64_t kSumGroups = 8;

inline int64_t sum_groups(int64_t chunks) { return chunks < kSumGroups ? chunks : kSumGroups; }

}  // namespace clof
