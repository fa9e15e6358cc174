// Memory for the work of a call on the CPU.
#pragma once

#include "host.h"

namespace clof::host {

// Of `bytes` at least, for one call of this thread at a time; what it holds is undefined. Little memory is kept for the
// thread's next call: given back after every call it would leave the process, and return one page fault at a time.
Tensor memory_of_call(const Tensor& like, int64_t bytes);

}  // namespace clof::host
