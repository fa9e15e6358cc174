// Copies to shared memory that go on beside the threads, for the GPU in software of emulated_gpu.h: they
// are made when they are waited for, not before, so that kernels that do not wait find nothing there.
#pragma once

#include "emulated_gpu.h"

namespace clof::cuda {

namespace emulated {

struct Copy {
  void* to;
  const void* from;
};
inline std::vector<Copy> copies[kMaxThreads];  // that a thread of the block has asked for

}  // namespace emulated

CLOF_DEVICE CLOF_UNSEEN void copy_later(void* to, const void* from) {
  emulated::reads_16(from);
  emulated::writes_16(to);  // from now on it may be written
  const emulated::Quiet quiet;
  emulated::copies[thread_index()].push_back({to, from});
}

CLOF_DEVICE CLOF_UNSEEN void copies_arrive() {
  const emulated::Quiet quiet;
  std::vector<emulated::Copy>& copies = emulated::copies[thread_index()];
  for (const emulated::Copy& copy : copies) *static_cast<int4*>(copy.to) = *static_cast<const int4*>(copy.from);
  copies.clear();
}

}  // namespace clof::cuda
