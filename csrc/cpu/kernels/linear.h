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

}  // namespace clof
