// Which instruction set's kernels run.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace clof::cpu {

// The kernels in use: the best that this processor runs, chosen at load, or those that select() set.
const Kernels& kernels();

// The names that this build has and this processor runs, the best last.
std::vector<std::string> available();

// Use one of available() from now on; false if it is not among them. For tests and measurements.
bool select(const std::string& instruction_set);

}  // namespace clof::cpu
