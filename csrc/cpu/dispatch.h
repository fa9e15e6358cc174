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

// Names of instruction sets that are in part run by software, for tests on processors that lack them.
std::vector<std::string> emulated();

// Use one of available() or emulated() from now on; false if it is not among them. For tests and measurements.
bool select(const std::string& instruction_set);

}  // namespace clof::cpu
