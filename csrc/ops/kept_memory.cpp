#include "kept_memory.h"

#include "../interface.h"

namespace clof {
namespace host {
namespace {

// Enough for graphs of a few thousand nodes.
constexpr int64_t kMostKept = 16 << 20;

Tensor& kept() {
  static thread_local Tensor memory;
  return memory;
}

}  // namespace

Tensor memory_of_call(const Tensor& like, int64_t bytes) {
  if (kept().defined() && kept().numel() >= bytes) return kept();
  // Not both at a time.
  release_memory();
  Tensor memory = empty(like, {bytes}, ScalarType::Byte);
  if (bytes <= kMostKept) kept() = memory;
  return memory;
}

}  // namespace host

void release_memory() { host::kept() = torch::stable::Tensor(); }

}  // namespace clof
